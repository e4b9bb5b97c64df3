"""What decides the bits of an extraction of embeddings, besides its source and its extractor."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from explorer.pairs.sources.decoding import Limits

if TYPE_CHECKING:
    from explorer.embeddings.universal_extractor import UniversalExtractor


@dataclass(frozen=True, kw_only=True)
class ExtractionSettings:
    """What decides the bits of a store, besides source and extractor."""

    partition_size: int = 10_000
    """Source records of a partition."""
    batch_size: int = 64
    """Usable pairs encoded at once."""
    size: int | None = None
    """Pixels a side that every picture is first squared to, as an import of this size does: AD is then that of the
    imported set. None squares for an extractor of ours, which has no preparation of its own, to what it reads, and
    leaves pictures as they are for any other."""
    limits: Limits = field(default_factory=Limits)
    """What a usable pair looks like."""

    def __post_init__(self) -> None:
        for name in ("partition_size", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected at least 1")
        if self.size is not None and self.size < 8:
            raise ValueError(f"size is {self.size}: expected at least 8 pixels")

    def squared_for(self, extractor: UniversalExtractor) -> ExtractionSettings:
        """The same with ``size`` as it is with this extractor."""
        own = extractor.picture_size if extractor.preparation is None else None
        return replace(self, size=self.size or own)

    def as_dict(self) -> dict[str, Any]:
        """JSON-serialisable."""
        return {
            "partition_size": self.partition_size,
            "batch_size": self.batch_size,
            "size": self.size,
            "limits": self.limits.as_dict(),
        }
