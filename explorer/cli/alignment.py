"""``explorer ad`` measures a pair set's Alignment Difficulty; ``explorer cifar10`` writes a CIFAR-10 set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from explorer.cli.application import AsJson, application, emit
from explorer.cli.extractor_options import (
    DEFAULT_EXTRACTOR,
    ExtractorFolder,
    FeatureRange,
    OpenClip,
    PretrainedTag,
    Weights,
    chosen_extractor,
)
from explorer.cli.structure_options import (
    BudgetMemory,
    BudgetSeconds,
    Estimator,
    Kernel,
    LandmarkRows,
    Landmarks,
    LandmarkUids,
    Precision,
    Samples,
    Scores,
    StructureDevice,
    structure_request,
    trusted_landmarks,
)


@application.command("ad")
def alignment_difficulty(
    pair_set: Annotated[Path, typer.Argument(metavar="SET", help="Folder of a pair set.")],
    extractor: ExtractorFolder = DEFAULT_EXTRACTOR,
    open_clip: OpenClip = None,
    weights: Weights = None,
    pretrained_tag: PretrainedTag = None,
    feature_range: FeatureRange = None,
    alpha: Annotated[float, typer.Option(help="Weight of feature AD, 0 to 1.")] = 0.8,
    convention: Annotated[str, typer.Option(help="Structure distance: authors or halved.")] = "authors",
    labels: Annotated[bool, typer.Option("--labels", help="Use class labels instead of captions.")] = False,
    split: Annotated[str, typer.Option(help="Split to measure: train, test or all.")] = "train",
    estimator: Estimator = "auto",
    samples: Samples = None,
    landmarks: Landmarks = None,
    landmark_rows: LandmarkRows = None,
    landmark_uids: LandmarkUids = None,
    budget_seconds: BudgetSeconds = None,
    budget_memory: BudgetMemory = None,
    precision: Precision = "fp32",
    kernel: Kernel = "auto",
    device: StructureDevice = "cpu",
    scores: Scores = None,
    seed: Annotated[int, typer.Option(help="Decides what estimators and the self-check draw.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Alignment Difficulty of a pair set: feature, structure, total, their standard errors, and how it was computed.

    Without a budget it is exact wherever memory allows. `torchrun --nproc-per-node N -m explorer ad SET` shares the
    work among N processes.
    """
    import pyarrow

    from explorer.alignment.pair_sets import measure, measure_labels
    from explorer.alignment.scores import check_scores_path, write_scores
    from explorer.core.workers import worker_group

    if labels and convention != "authors":
        raise ValueError(f"convention is {convention!r}: expected authors, the only one labels are defined for")
    request = structure_request(
        estimator=estimator, samples=samples, budget_seconds=budget_seconds, budget_memory=budget_memory,
        precision=precision, kernel=kernel, device=device, seed=seed,
    )  # fmt: skip
    if scores is not None:
        check_scores_path(scores)
    common = {"alpha": alpha, "split": None if split == "all" else split, "request": request}
    common["landmarks"] = trusted_landmarks(landmarks, landmark_rows, landmark_uids)
    with worker_group(device) as workers:  # which also gives every process its own GPU
        encoder = chosen_extractor(
            extractor, open_clip, weights, feature_range, device, needs_range=not labels, pretrained_tag=pretrained_tag
        )
        if labels:
            measurement = measure_labels(pair_set, encoder, **common, workers=workers)
        else:
            measurement = measure(pair_set, encoder, convention=convention, **common, workers=workers)
        if workers.index == 0:
            cost = measurement.computation.cost_report()
            if scores is not None:
                flags = pyarrow.array(measurement.flags.as_list(), pyarrow.bool_())
                write_scores(
                    scores, measurement.difficulty, measurement.rows, measurement.report(),
                    uid=measurement.uids.tolist(), is_poison=flags,
                )  # fmt: skip
            emit({"set": str(pair_set), **measurement.report(), **cost}, as_json)


@application.command("cifar10")
def cifar10(
    out: Annotated[Path, typer.Argument(help="New folder for the pair set.")],
    source: Annotated[Path, typer.Option(help="Folder of CIFAR-10 parquet files or the official archive.")],
    poisoned_classes: Annotated[int, typer.Option(help="Classes with mislabelled pairs added, 0 to 10.")] = 0,
    seed: Annotated[int, typer.Option(help="Decides classes, targets and pictures.")] = 0,
    split: Annotated[str, typer.Option(help="Split to write: train or test.")] = "train",
    download: Annotated[
        bool, typer.Option("--download", help="Let torchvision fetch the archive into SOURCE.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write CIFAR-10 as a pair set, with mislabelled pairs added to some classes."""
    from explorer.pairs.sources.cifar10 import write_cifar10

    pair_set = write_cifar10(out, source, poisoned_classes=poisoned_classes, seed=seed, split=split, download=download)
    emit({"set": str(out), "seed": seed, **pair_set.manifest["config"], **pair_set.manifest["counts"]}, as_json)
