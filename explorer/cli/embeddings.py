"""``explorer embed | ad-store | benchmark embeddings``: embeddings of a user's data, and AD of any embedding store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from explorer.cli.application import AsJson, application, emit
from explorer.cli.benchmark import benchmark
from explorer.cli.extractor_options import (
    DEFAULT_EXTRACTOR,
    ExtractorFolder,
    FeatureRange,
    OpenClip,
    PretrainedTag,
    Weights,
    chosen_extractor,
)
from explorer.cli.source_options import (
    CaptionField,
    Captions,
    ImageField,
    Kind,
    Source,
    SplitOption,
    UidField,
    reading,
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

BatchSize = Annotated[int, typer.Option(min=1, help="Pairs encoded at once.")]
Workers = Annotated[int, typer.Option(min=1, help="Threads that decode.")]
Device = Annotated[str, typer.Option(help="Torch device.")]


@application.command("embed")
def embed(
    source: Source,
    out: Annotated[Path, typer.Argument(help="New folder, or one where the same extraction was begun.")],
    extractor: Annotated[Path | None, typer.Option(help="Folder of a universal extractor of ours.")] = None,
    open_clip: OpenClip = None,
    weights: Weights = None,
    pretrained_tag: PretrainedTag = None,
    feature_range: FeatureRange = None,
    kind: Kind = "auto",
    split: SplitOption = None,
    captions: Captions = "auto",
    image: ImageField = None,
    caption: CaptionField = None,
    uid: UidField = None,
    partition_size: Annotated[int, typer.Option(min=1, help="Source records of a partition.")] = 10_000,
    batch_size: BatchSize = 64,
    size: Annotated[
        int | None, typer.Option(help="Square pictures to so many pixels first, as import does; default: see README.")
    ] = None,
    workers: Workers = 2,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Embed every usable pair in clip-retrieval's layout; run it again to resume.

    AD of the store is that of `import --size N` where both read pictures of N pixels; `ad` and `ad-store` print them.
    """
    from explorer.embeddings.extract import ExtractionSettings, extract_embeddings
    from explorer.pairs.counts import COUNTED
    from explorer.pairs.sources.detection import open_source

    opened = open_source(source, **reading(kind, split, captions, image, caption, uid))
    settings = ExtractionSettings(partition_size=partition_size, batch_size=batch_size, size=size)
    encoder = chosen_extractor(extractor, open_clip, weights, feature_range, device, pretrained_tag=pretrained_tag)
    store = extract_embeddings(
        opened, out, encoder, settings, workers=workers, say=lambda line: typer.echo(line, err=True)
    )
    made = store.manifest
    result = {"folder": str(out), "kind": opened.kind, "extractor": encoder.name, "width": store.image.shape[1]}
    counted = {name: made[name] for name in ("quarantined", *COUNTED, "left_out")}
    emit({**result, **made["counts"], **counted}, as_json)


@application.command("ad-store")
def ad_store(
    store: Annotated[
        Path, typer.Argument(help="Folder of img_emb, text_emb and perhaps metadata: ours, LAION's, any.")
    ],
    feature_range: FeatureRange = None,
    alpha: Annotated[float, typer.Option(help="Weight of feature AD, 0 to 1.")] = 0.8,
    convention: Annotated[str, typer.Option(help="Structure distance: authors or halved.")] = "authors",
    sample: Annotated[int | None, typer.Option(help="Measure only this many random pairs; default: all.")] = None,
    estimator: Estimator = "auto",
    samples: Samples = None,
    landmarks: Landmarks = None,
    landmark_rows: LandmarkRows = None,
    landmark_uids: LandmarkUids = None,
    concepts: Annotated[
        Path | None, typer.Option(help="Text file of nouns, one a line; a caption's first is its stratum (stratified).")
    ] = None,
    caption: CaptionField = None,
    budget_seconds: BudgetSeconds = None,
    budget_memory: BudgetMemory = None,
    precision: Precision = "fp32",
    kernel: Kernel = "auto",
    device: StructureDevice = "cpu",
    scores: Scores = None,
    seed: Annotated[int, typer.Option(help="Decides the sample, and what estimators and the self-check draw.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Alignment Difficulty of stored embeddings, computed as in `ad`; nothing is encoded again.

    What does not fit memory is read from disk part by part; --sample reads its own rows only. `torchrun
    --nproc-per-node N -m explorer ad-store STORE` shares the work among N processes.
    """
    from explorer.alignment.scores import check_scores_path, write_scores
    from explorer.alignment.stores import measure_store
    from explorer.core.workers import worker_group
    from explorer.pairs.pair_import import read_concepts

    request = structure_request(
        estimator=estimator, samples=samples, budget_seconds=budget_seconds, budget_memory=budget_memory,
        precision=precision, kernel=kernel, device=device, seed=seed,
    )  # fmt: skip
    if scores is not None:
        check_scores_path(scores)
    nouns = () if concepts is None else read_concepts(concepts)
    with worker_group(device) as workers:
        measurement = measure_store(
            store, feature_range=feature_range, alpha=alpha, convention=convention, sample=sample, seed=seed,
            request=request, landmarks=trusted_landmarks(landmarks, landmark_rows, landmark_uids), concepts=nouns,
            caption_column=caption, workers=workers,
        )  # fmt: skip
        if workers.index == 0:
            if scores is not None:
                write_scores(
                    scores, measurement.difficulty, measurement.rows, measurement.report(), uid=measurement.uids()
                )
            emit({"store": str(store), **measurement.report(), **measurement.cost_report()}, as_json)


@benchmark.command("embeddings")
def embeddings_command(
    source: Annotated[
        str | None, typer.Option(help="Source of usable pairs; default: a shard of IconWorld scenes, made for the run.")
    ] = None,
    pairs: Annotated[int, typer.Option(min=1, help="Pairs of the default source.")] = 512,
    side: Annotated[int, typer.Option(min=64, help="Pixels of the default source's square JPEGs.")] = 256,
    extractor: ExtractorFolder = DEFAULT_EXTRACTOR,
    open_clip: OpenClip = None,
    weights: Weights = None,
    pretrained_tag: PretrainedTag = None,
    feature_range: FeatureRange = None,
    batch_size: BatchSize = 64,
    workers: Workers = 2,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds; the median and the quartiles are reported.")] = 5,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Embedding extraction against the plain loop with Pillow and open_clip, in pairs a second."""
    import tempfile

    import torch

    from explorer.benchmarks.embeddings import benchmark_extraction, write_benchmark_shard
    from explorer.pairs.sources.detection import open_source

    encoder = chosen_extractor(extractor, open_clip, weights, feature_range, device, pretrained_tag=pretrained_tag)
    with tempfile.TemporaryDirectory(prefix="benchmark") as folder:
        if source is None:
            shard = Path(folder) / "scenes.tar"
            write_benchmark_shard(shard, pairs=pairs, side=side, seed=0)
        opened = open_source(source or shard)
        measured = benchmark_extraction(opened, encoder, batch_size=batch_size, workers=workers, rounds=rounds)
    conditions = {
        "source": source or f"{pairs} IconWorld scenes of {side} x {side}",
        "extractor": encoder.name,
        "batch_size": batch_size,
        "workers": workers,
        "device": device,
        "threads": torch.get_num_threads(),
    }
    emit({**conditions, **measured.report()}, as_json)
