"""``explorer ad`` measures a pair set's Alignment Difficulty; ``explorer cifar10`` writes a CIFAR-10 set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from explorer.alignment.pair_sets import measure, measure_labels
from explorer.alignment.scores import write_scores
from explorer.cli.application import AsJson, application, emit
from explorer.cli.extractor_options import ExtractorChoice
from explorer.cli.progress_bar import show_progress
from explorer.cli.requests import command
from explorer.cli.structure_options import AlignmentOptions
from explorer.core.workers import worker_group
from explorer.pairs.sources.cifar10 import write_cifar10


@command("ad")
def alignment_difficulty(
    pair_set: Annotated[Path, typer.Argument(metavar="SET", help="Folder of a pair set.")],
    extractor: ExtractorChoice,
    options: AlignmentOptions,
    labels: Annotated[bool, typer.Option("--labels", help="Use class labels instead of captions.")] = False,
    split: Annotated[str, typer.Option(help="Split to measure: train, test or all.")] = "train",
    as_json: AsJson = False,
) -> None:
    """Alignment Difficulty of a pair set: feature, structure, total, their standard errors, and how it was computed;
    and local AD, that of what near captions show.

    Without a budget it is exact wherever memory allows. `torchrun --nproc-per-node N -m explorer ad SET` shares the
    work among N processes.
    """
    import pyarrow

    if labels and options.convention != "authors":
        raise ValueError(f"convention is {options.convention!r}: expected authors, the only one labels are defined for")
    arguments = {**options.arguments(), "split": None if split == "all" else split}
    device = options.structure.device
    with worker_group(device, show_progress()) as workers:  # which also gives every process its own GPU
        encoder = extractor.load(device, needs_range=not labels)
        if labels:
            measurement = measure_labels(pair_set, encoder, **arguments, workers=workers)
        else:
            measurement = measure(
                pair_set, encoder, **arguments, convention=options.convention, local=options.local, workers=workers
            )
        if workers.index == 0:
            if options.scores is not None:
                flags = pyarrow.array(measurement.flags.as_list(), pyarrow.bool_())
                write_scores(
                    options.scores, measurement.difficulty, measurement.rows, measurement.report(),
                    uid=measurement.uids.tolist(), is_poison=flags, **measurement.local_columns(),
                )  # fmt: skip
            emit({"set": str(pair_set), **measurement.report(), **measurement.computation.cost_report()}, as_json)


@application.command("cifar10")
def cifar10(
    out: Annotated[Path, typer.Argument(help="New folder for the pair set.")],
    source: Annotated[Path, typer.Option(help="Folder of CIFAR-10 parquet files or the official archive.")],
    poisoned_classes: Annotated[int, typer.Option(help="Classes with mislabelled pairs added, 0 to 10.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Decides classes, targets and pictures.")] = 0,
    split: Annotated[str, typer.Option(help="Split to write: train or test.")] = "train",
    download: Annotated[
        bool, typer.Option("--download", help="Let torchvision fetch the archive into SOURCE.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write CIFAR-10 as a pair set, with mislabelled pairs added to some classes."""
    pair_set = write_cifar10(out, source, poisoned_classes=poisoned_classes, seed=seed, split=split, download=download)
    emit({"set": str(out), "seed": seed, **pair_set.manifest["config"], **pair_set.manifest["counts"]}, as_json)
