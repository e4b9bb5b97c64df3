"""``explorer embed | ad-store | benchmark embeddings``: embeddings of a user's data, and AD of any embedding store."""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer

from explorer.alignment.stores import measure_store
from explorer.benchmarks.embeddings import benchmark_extraction, write_benchmark_shard
from explorer.cli.application import AsJson, emit
from explorer.cli.benchmark import Device, Rounds, benchmark
from explorer.cli.extractor_options import ExtractorChoice, NoneUnlessNamed
from explorer.cli.progress_bar import show_progress
from explorer.cli.requests import Spelling, command
from explorer.cli.source_options import CAPTION_NAMES, POISON_NAMES, AsRead, Source, Workers
from explorer.cli.structure_options import AlignmentOptions
from explorer.core.workers import worker_group
from explorer.embeddings.extract import extract_embeddings
from explorer.embeddings.extraction_settings import ExtractionSettings
from explorer.embeddings.processes import Processes
from explorer.pairs.counts import COUNTED
from explorer.pairs.pair_import import read_concepts
from explorer.pairs.sources.detection import open_source

BatchSize = Annotated[int, typer.Option(min=1, help="Pairs encoded at once.")]
Settings = Annotated[
    ExtractionSettings,
    Spelling(
        partition_size=typer.Option(min=1),
        batch_size=typer.Option(min=1),
        thumbnails=typer.Option(min=8),
        poison=POISON_NAMES,
        limits=None,
    ),
]


@command("embed")
def embed(
    source: Source,
    out: Annotated[Path, typer.Argument(help="New folder, or one where the same extraction was begun.")],
    extractor: NoneUnlessNamed,
    reading: AsRead,
    settings: Settings,
    workers: Workers = 2,
    processes: Annotated[int, typer.Option(min=1, help="Processes that embed, each with its own extractor.")] = 1,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Embed every usable pair in clip-retrieval's layout; run it again to resume.

    AD of the store is that of `import --size N` where both read pictures of N pixels; `ad` and `ad-store` print them.
    Several processes write the bits that one writes which has as many threads as each of them.
    """
    opened = open_source(source, **vars(reading))
    encoder = extractor.load(device)
    others = None
    if processes > 1:
        others = Processes(count=processes, load=partial(extractor.load, device))
        _divide_threads(processes)
    store = extract_embeddings(
        opened, out, encoder, settings, workers=workers, processes=others, on_progress=show_progress()
    )
    made = store.manifest
    result = {"folder": str(out), "kind": opened.kind, "extractor": encoder.name, "width": store.image.shape[1]}
    counted = {name: made[name] for name in ("quarantined", *COUNTED, "left_out")}
    emit({**result, **made["counts"], **counted}, as_json)


def _divide_threads(processes: int) -> None:
    """Of the machine's threads, this process takes its part, unless the environment says how many each takes."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // processes))
    typer.echo(f"{processes} processes embed with {torch.get_num_threads()} threads each", err=True)


@command("ad-store")
def ad_store(
    store: Annotated[
        str, typer.Argument(help="Folder or address of img_emb, text_emb and perhaps metadata: ours, LAION's, any.")
    ],
    options: AlignmentOptions,
    feature_range: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LO HI", help="Cosines of feature distance 1 and 0; default: the store's extractor's."),
    ] = None,
    sample: Annotated[int | None, typer.Option(help="Measure only this many random pairs; default: all.")] = None,
    concepts: Annotated[
        Path | None,
        typer.Option(help="Nouns, one a line, or a concepts.csv; a caption's first is its stratum (stratified)."),
    ] = None,
    caption: Annotated[
        str | None, typer.Option(*CAPTION_NAMES, help="Column of the captions, where it has none of the usual names.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Alignment Difficulty of stored embeddings, computed as in `ad`; nothing is encoded again.

    From landmarks, memory does not grow with the store. Otherwise, what does not fit is read from disk part by part;
    --sample reads its own rows only. `torchrun
    --nproc-per-node N -m explorer ad-store STORE` shares the work among N processes.
    """
    nouns = () if concepts is None else read_concepts(concepts)
    with worker_group(options.structure.device, show_progress()) as workers:
        measurement = measure_store(
            store, **options.arguments(), convention=options.convention, local=options.local, scores=options.scores,
            feature_range=feature_range, sample=sample, seed=options.structure.seed, concepts=nouns,
            caption_column=caption, workers=workers,
        )  # fmt: skip
        if workers.index == 0:
            emit({"store": str(store), **measurement.report(), **measurement.cost_report()}, as_json)


@command("embeddings", benchmark)
def embeddings_command(
    extractor: ExtractorChoice,
    source: Annotated[
        str | None, typer.Option(help="Source of usable pairs; default: a shard of IconWorld scenes, made for the run.")
    ] = None,
    pairs: Annotated[int, typer.Option(min=1, help="Pairs of the default source.")] = 512,
    side: Annotated[int, typer.Option(min=64, help="Pixels of the default source's square JPEGs.")] = 256,
    batch_size: BatchSize = 64,
    workers: Workers = 2,
    rounds: Rounds = 5,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Embedding extraction against the plain loop with Pillow and open_clip, in pairs a second."""
    encoder = extractor.load(device)
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
