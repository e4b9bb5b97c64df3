"""Further tables of ``study.toml``: extractor, readers of pictures, filters, what is trained again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LOCAL = "local-dir:"
"""Before the folder of an open_clip model."""


@dataclass(frozen=True, kw_only=True)
class ExtractorSpec:
    """The universal extractor of a study: a folder of ours, or any open_clip model with local weights.

    Raises:
        ValueError: if ``feature_range`` is none.
    """

    folder: Path | None = None
    """Of a universal extractor of ours."""
    open_clip: str | None = None
    """An open_clip model by name, or ``local-dir:FOLDER``, in ``study.toml`` relative to the study's folder."""
    weights: Path | None = None
    """Local .safetensors file of the open_clip model."""
    pretrained_tag: str | None = None
    """open_clip tag of the weights: decides how pictures are prepared."""
    feature_range: tuple[float, float] | None = None
    """Cosines of feature distance 1 and 0, of the open_clip model; None until it is calibrated."""

    def __post_init__(self) -> None:
        if self.feature_range is not None and not -1 <= self.feature_range[0] < self.feature_range[1] <= 1:
            raise ValueError(
                f"feature_range of extractor is {self.feature_range}: expected two cosines, the lower first"
            )


@dataclass(frozen=True, kw_only=True)
class ClassifierSpec:
    """Any torchvision classifier with local weights, whose classes are compared with the concepts."""

    architecture: str
    """As ``torchvision.models.list_models()`` has it."""
    weights: Path
    """Local .safetensors file of its state."""
    class_names: Path
    """Text file, a line for each class; several names of one are parted by commas."""
    preparation: str | None = None
    """torchvision's name of the weights whose pictures were prepared so, or ``side-64`` for a classifier that
    ``explorer train-classifier`` made of pictures of 64 pixels a side; None where all of the architecture agree."""


@dataclass(frozen=True, kw_only=True)
class AestheticsSpec:
    """An aesthetics head, published or by `train-aesthetics`, and the CLIP whose features it reads."""

    head: Path
    """Local .safetensors file."""
    threshold: float | None = None
    """Score above which a picture counts as pleasing; None for the head's own, and of one that names none for 6.5, that
    of Ding et al. (2024), section 5.1."""
    folder: Path | None = None
    """As the study's extractor has it, and so are the next three; without any, the head reads that extractor."""
    open_clip: str | None = None
    weights: Path | None = None
    pretrained_tag: str | None = None

    @property
    def extractor(self) -> ExtractorSpec | None:
        """The head's own CLIP; None where it reads the study's."""
        own = ExtractorSpec(
            folder=self.folder, open_clip=self.open_clip, weights=self.weights, pretrained_tag=self.pretrained_tag
        )
        return None if own == ExtractorSpec() else own


@dataclass(frozen=True, kw_only=True)
class FiltersSpec:
    """What pairs can be filtered by beside what their features say."""

    loss_arms: tuple[str, ...] = ()
    """Arms whose models measure every pair's denoising loss; of two and more the differences are scores as well."""
    losses_of: tuple[str, ...] = ()
    """Arms whose pairs' losses are measured; none for all."""
    loss_pairs: int = 0
    """Pairs of every arm, at most, whose loss is measured, drawn without a look at the flags; 0 for all."""
    scores: Path | None = None
    """A .parquet file with a column ``uid`` and further scores; None where there is none."""
    columns: tuple[str, ...] = ()
    """Its columns that are scores, high where a pair is suspicious."""

    def __post_init__(self) -> None:
        if type(self.loss_pairs) is not int or self.loss_pairs < 0:
            raise ValueError(f"loss_pairs of filters is {self.loss_pairs!r}: expected a whole number from 0")
        if (self.scores is None) != (not self.columns):
            raise ValueError("filters name scores without columns, or columns without scores: expected both or neither")


@dataclass(frozen=True, kw_only=True)
class RetrainedSpec:
    """What models are asked that were trained again."""

    seeds: tuple[int, ...] = ()
    """Of the noise; none for the study's own."""
    unpoisoned_only: bool = False
    """Whether models trained on what a filter leaves are asked for those concepts alone that are outside the pool and
    that no record poisons; recoveries, and the models that they are compared with, are asked for all."""
