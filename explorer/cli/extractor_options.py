"""The options that choose a universal extractor: a folder of ours, or any open_clip model with local weights."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from explorer.cli.requests import Spelling
from explorer.core.provenance import ROOT
from explorer.studies.specs import LOCAL, ExtractorSpec

if TYPE_CHECKING:
    from explorer.embeddings.universal_extractor import UniversalExtractor

DEFAULT_EXTRACTOR = ROOT / "checkpoints" / "iconworld" / "extractor"


@dataclass(frozen=True, kw_only=True)
class ExtractorChoice:
    """Which extractor computes the features."""

    extractor: Path | None = DEFAULT_EXTRACTOR
    """Folder of a universal extractor of ours."""
    open_clip: str | None = None
    """An open_clip model by name, or ``local-dir:FOLDER``, instead; needs ``--weights``."""
    weights: Path | None = None
    """Local .safetensors file of the open_clip model."""
    pretrained_tag: str | None = None
    """open_clip tag of the weights (``openai``, ...): decides how pictures are prepared."""
    feature_range: Annotated[tuple[float, float] | None, typer.Option(metavar="LO HI")] = None
    """Cosines of feature distance 1 and 0, of the open_clip model: see ``explorer calibrate``."""

    def load(self, device: str = "cpu", *, needs_range: bool = True) -> UniversalExtractor:
        """The extractor itself.

        Args:
            needs_range: whether feature distances are to be computed with it.

        Raises:
            ValueError: if an option lacks another that belongs to it.
        """
        from explorer.embeddings.universal_extractor import UniversalExtractor

        self._check(needs_range)
        if self.open_clip is None:
            return UniversalExtractor.load(self.extractor, device)
        import open_clip as library

        from explorer.embeddings.open_clip_extractor import DEFAULT_TAG, load_open_clip

        if self.pretrained_tag in (None, DEFAULT_TAG) and f"{self.open_clip}-quickgelu" in library.list_models():
            typer.echo(
                f"note: {self.open_clip} computes with plain GELU. Weights trained with QuickGELU, OpenAI's among "
                f"them, load as well and give wrong embeddings: for these name {self.open_clip}-quickgelu.",
                err=True,
            )
        extractor = load_open_clip(self.open_clip, self.weights, self.feature_range, device, self.pretrained_tag)
        told = ", ".join(f"{name} {value}" for name, value in extractor.preparation.items())
        typer.echo(f"pictures of {self.open_clip} are prepared so: {told}", err=True)
        return extractor

    def spec(self) -> ExtractorSpec:
        """What study.toml says of it; nothing where none is named.

        Raises:
            ValueError: if an option lacks another that belongs to it.
        """
        if self.extractor is None and self.open_clip is None and self.weights is None:
            return ExtractorSpec()
        self._check(needs_range=False)
        name = self.open_clip
        if name is not None and name.startswith(LOCAL):
            name = LOCAL + os.path.abspath(name.removeprefix(LOCAL))
        return ExtractorSpec(
            folder=None if name is not None or self.extractor is None else self.extractor.absolute(), open_clip=name,
            weights=None if self.weights is None else self.weights.absolute(), pretrained_tag=self.pretrained_tag,
            feature_range=self.feature_range,
        )  # fmt: skip

    def _check(self, needs_range: bool) -> None:
        described = (self.weights, self.feature_range, self.pretrained_tag)
        if self.open_clip is None and described != (None, None, None):
            raise ValueError(
                "--weights, --pretrained-tag and --feature-range describe an open_clip model: expected --open-clip, too"
            )
        if self.extractor is None and self.open_clip is None:
            raise ValueError(
                "no extractor is named: expected --open-clip MODEL --weights FILE --feature-range LO HI, or "
                f"--extractor FOLDER; the shipped one, {DEFAULT_EXTRACTOR}, knows the icons and words of IconWorld and "
                "nothing else"
            )
        if self.open_clip is not None and self.weights is None:
            raise ValueError(f"--open-clip {self.open_clip} is given: expected --weights FILE, too")
        if self.open_clip is not None and needs_range and self.feature_range is None:
            raise ValueError(
                f"--open-clip {self.open_clip} is given: expected --feature-range LO HI, too; `explorer calibrate` "
                "finds it"
            )


WithoutRange = Annotated[ExtractorChoice, Spelling(feature_range=None)]
NoneUnlessNamed = Annotated[ExtractorChoice, Spelling(extractor=typer.Option(None))]
