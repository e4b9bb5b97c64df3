"""``explorer features``: extract and cache the universal features of a pair set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from explorer.cli.application import AsJson, application, emit
from explorer.provenance import ROOT


@application.command("features")
def features(
    pair_set: Annotated[Path, typer.Argument(help="A pair set's folder.")],
    extractor: Annotated[Path, typer.Option(help="Extractor folder.")] = (
        ROOT / "checkpoints" / "iconworld" / "extractor"
    ),
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Compute image and text features of every pair, kept beside the set as fp16 .npy."""
    from explorer.data.pair_set import PairSet
    from explorer.experiments.features import pair_features
    from explorer.models.universal_extractor import UniversalExtractor

    loaded = UniversalExtractor.load(extractor, device)
    image, _ = pair_features(PairSet.load(pair_set), loaded)
    folder = pair_set / "features" / loaded.name
    emit({"folder": str(folder), "pairs": len(image), "width": image.shape[1]}, as_json)
