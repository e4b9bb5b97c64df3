"""Embedding extraction on a GPU: an open_clip model with random weights on a webdataset shard, and the plain loop."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from explorer.benchmarks.device_figures import free_memory, profiled
from explorer.benchmarks.embeddings import (
    benchmark_extraction,
    plain_loop,
    write_benchmark_shard,
)
from explorer.benchmarks.row_report import RowReport, Save
from explorer.embeddings.extract import ExtractionSettings, extract_embeddings
from explorer.embeddings.open_clip_extractor import DEFAULT_TAG, load_open_clip
from explorer.pairs.sources.detection import open_source

if TYPE_CHECKING:
    from explorer.embeddings.universal_extractor import UniversalExtractor
    from explorer.pairs.sources.base import PairSource

SECONDS = 50.0
MODEL, SMALL_MODEL = "ViT-B-32", "ViT-S-32-alt"
PAIRS, SMALL_PAIRS = 2000, 12
SIDE = 256
FEATURE_RANGE = (0.2, 0.45)
"""Extraction writes it down; random weights have none of their own."""
MOST_ROUNDS = 3
MOST_WORKERS = 12
"""Threads that decode for ours; the plain loop decodes in its own thread."""


def embeddings(save: Save, *, smoke: bool, device: str) -> None:
    """Pairs a second of extraction and of the plain loop, in turns."""
    model, pairs = (SMALL_MODEL, SMALL_PAIRS) if smoke else (MODEL, PAIRS)
    workers, batch = min(MOST_WORKERS, os.cpu_count() or 1), 4 if smoke else 256
    report = RowReport(
        save, device, SECONDS, model=model, pairs=pairs, side=SIDE, workers=workers, batch_size=batch,
        plain_loop="decodes and encodes in one thread",
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="benchmark") as folder:
        extractor = random_open_clip(model, Path(folder), device)
        shards = {}
        for name, count in (("warm", 2 * batch), ("counted", pairs)):
            shards[name] = Path(folder) / f"{name}.tar"
            write_benchmark_shard(shards[name], pairs=count, side=SIDE, seed=0)
        warm, counted = (open_source(str(shards[name])) for name in ("warm", "counted"))
        options = {"batch_size": batch, "workers": workers}
        tried = benchmark_extraction(warm, extractor, rounds=1, **options).report()
        report.add(profile=_profiles(warm, extractor, Path(folder) / "profiled", device, **options))
        round_seconds = pairs / tried["pairs_per_second"] + pairs / tried["plain_pairs_per_second"]
        rounds = max(1, min(MOST_ROUNDS, int(report.left() / round_seconds)))
        benchmark_extraction(
            counted, extractor, rounds=rounds, warm_up=False,
            on_round=lambda measured: report.add(extraction=measured.report()), **options,
        )  # fmt: skip
    free_memory(device)


def _profiles(
    source: PairSource, extractor: UniversalExtractor, folder: Path, device: str, *, batch_size: int, workers: int
) -> dict[str, Any]:
    """Where the time of both goes over a few batches."""
    settings = ExtractionSettings(batch_size=batch_size)
    return {
        "ours": profiled(lambda: extract_embeddings(source, folder, extractor, settings, workers=workers), device),
        "plain": profiled(lambda: plain_loop(source, extractor, batch_size, None), device),
    }


def random_open_clip(model: str, folder: Path, device: str) -> UniversalExtractor:
    """An open_clip model with random weights, drawn on ``device`` and loaded as a user's own file would be."""
    import open_clip

    torch.manual_seed(0)
    clip = open_clip.create_model(model, load_weights=False, device=device)
    weights = folder / "random.safetensors"
    save_file({name: value.contiguous().cpu() for name, value in clip.state_dict().items()}, weights)
    del clip
    return load_open_clip(model, weights, FEATURE_RANGE, device, DEFAULT_TAG)
