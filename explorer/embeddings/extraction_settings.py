"""What decides the bits of an extraction of embeddings, besides its source and its extractor."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from explorer.pairs.poison_flags import PoisonFields
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
    thumbnails: int | None = None
    """Pixels a side of the squared thumbnails that are kept beside the embeddings; None keeps none."""
    poison: PoisonFields = field(default_factory=PoisonFields)
    """Fields of the source that say which pairs are poison: a pair of which they cannot be read is set aside."""
    limits: Limits = field(default_factory=Limits)
    """What a usable pair looks like."""

    def __post_init__(self) -> None:
        for name in ("partition_size", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected at least 1")
        for name in ("size", "thumbnails"):
            if (side := getattr(self, name)) is not None and side < 8:
                raise ValueError(f"{name} is {side}: expected at least 8 pixels")

    def squared_for(self, extractor: UniversalExtractor) -> ExtractionSettings:
        """The same with ``size`` as it is with this extractor."""
        own = extractor.picture_size if extractor.preparation is None else None
        return replace(self, size=self.size or own)

    def as_dict(self) -> dict[str, Any]:
        """JSON-serialisable; what is not asked for is left out, as in stores of earlier releases."""
        asked = {"thumbnails": self.thumbnails, "poison_fields": self.poison.named()}
        return {name: value for name, value in asked.items() if value} | {
            "partition_size": self.partition_size,
            "batch_size": self.batch_size,
            "size": self.size,
            "limits": self.limits.as_dict(),
        }
