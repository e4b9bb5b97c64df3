"""``explorer features | calibrate``: universal features of a pair set, and the feature range of an extractor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from explorer.cli.application import AsJson, emit
from explorer.cli.extractor_options import WithoutRange
from explorer.cli.progress_bar import show_progress
from explorer.cli.requests import command
from explorer.pairs.pair_set import PairSet

PairSetFolder = Annotated[Path, typer.Argument(metavar="SET", help="Folder of a pair set.")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]


@command("features")
def features(
    pair_set: PairSetFolder,
    extractor: WithoutRange,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Compute image and text features of every pair, kept beside the set as fp16 .npy."""
    from explorer.embeddings.features import pair_features

    encoder = extractor.load(device, needs_range=False)
    image, _ = pair_features(PairSet.load(pair_set), encoder, show_progress())
    folder = pair_set / "features" / encoder.name
    emit({"folder": str(folder), "pairs": len(image), "width": image.shape[1]}, as_json)


@command("calibrate")
def calibrate_command(
    pair_set: PairSetFolder,
    extractor: WithoutRange,
    split: Annotated[str, typer.Option(help="Split to take benign pairs from: train or test.")] = "train",
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Find (lo, hi) of an extractor on pairs you trust, for `--feature-range` of `ad` and `embed`; do it once."""
    from explorer.alignment.calibration import calibrate

    encoder = extractor.load(device, needs_range=False)
    emit({"set": str(pair_set), **calibrate(PairSet.load(pair_set), encoder, split)}, as_json)
