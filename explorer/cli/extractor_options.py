"""The options that choose a universal extractor: a folder of ours, or any open_clip model with local weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from explorer.core.provenance import ROOT

if TYPE_CHECKING:
    from explorer.embeddings.universal_extractor import UniversalExtractor

ExtractorFolder = Annotated[Path, typer.Option("--extractor", help="Folder of a universal extractor.")]
OpenClip = Annotated[
    str | None, typer.Option(help="An open_clip model by name, or local-dir:FOLDER, instead; needs --weights.")
]
Weights = Annotated[Path | None, typer.Option(help="Local .safetensors file of the open_clip model.")]
PretrainedTag = Annotated[
    str | None,
    typer.Option(help="open_clip tag of the weights (openai, ...): decides how pictures are prepared."),
]
FeatureRange = Annotated[
    tuple[float, float] | None,
    typer.Option(
        metavar="LO HI",
        help="Cosines of feature distance 1 and 0, of the open_clip model: see `explorer calibrate`.",
    ),
]
DEFAULT_EXTRACTOR = ROOT / "checkpoints" / "iconworld" / "extractor"


def chosen_extractor(
    folder: Path | None,
    open_clip: str | None,
    weights: Path | None,
    feature_range: tuple[float, float] | None = None,
    device: str = "cpu",
    *,
    needs_range: bool = True,
    pretrained_tag: str | None = None,
) -> UniversalExtractor:
    """The extractor of the options.

    Args:
        folder: of ours; None where none is taken unless named.
        needs_range: whether feature distances are to be computed with it.
        pretrained_tag: see ``load_open_clip``.

    Raises:
        ValueError: if an option lacks another that belongs to it.
    """
    from explorer.embeddings.universal_extractor import UniversalExtractor

    if open_clip is None and not (weights is None and feature_range is None and pretrained_tag is None):
        raise ValueError(
            "--weights, --pretrained-tag and --feature-range describe an open_clip model: expected --open-clip, too"
        )
    if folder is None and open_clip is None:
        raise ValueError(
            "no extractor is named: expected --open-clip MODEL --weights FILE --feature-range LO HI, or --extractor "
            f"FOLDER; the shipped one, {DEFAULT_EXTRACTOR}, knows the icons and words of IconWorld and nothing else"
        )
    if open_clip is None:
        return UniversalExtractor.load(folder, device)
    if weights is None:
        raise ValueError(f"--open-clip {open_clip} is given: expected --weights FILE, too")
    if needs_range and feature_range is None:
        raise ValueError(
            f"--open-clip {open_clip} is given: expected --feature-range LO HI, too; `explorer calibrate` finds it"
        )
    import open_clip as library

    from explorer.embeddings.open_clip_extractor import DEFAULT_TAG, load_open_clip

    if pretrained_tag in (None, DEFAULT_TAG) and f"{open_clip}-quickgelu" in library.list_models():
        typer.echo(
            f"note: {open_clip} computes with plain GELU. Weights trained with QuickGELU, OpenAI's among them, load as "
            f"well and give wrong embeddings: for these name {open_clip}-quickgelu.",
            err=True,
        )
    extractor = load_open_clip(open_clip, weights, feature_range, device, pretrained_tag)
    told = ", ".join(f"{name} {value}" for name, value in extractor.preparation.items())
    typer.echo(f"pictures of {open_clip} are prepared so: {told}", err=True)
    return extractor
