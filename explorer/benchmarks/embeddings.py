"""Embedding extraction against the plain loop: decode a batch with Pillow, encode it with the same CLIP, go on.

Both read the same records, with the same extractor and batch size, in the same run, in turns. Ours also sets aside,
hashes and writes; the loop only keeps its features in memory.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from explorer.benchmarks.capture import CostRatio, take_turns
from explorer.iconworld.world import World, draw_pairs, paint_all
from explorer.pairs.pair_import import square_thumbnail

if TYPE_CHECKING:
    from explorer.embeddings.universal_extractor import UniversalExtractor
    from explorer.pairs.sources.base import PairSource


@dataclass(frozen=True, kw_only=True)
class ExtractionBenchmark:
    """Throughput of extraction and of the plain loop."""

    pairs: int
    """Pairs encoded in every round."""
    cost: CostRatio
    """Seconds of ours against seconds of the loop."""
    largest_difference: float
    """Largest difference of any feature between the two; fp16 rounds by up to 5e-4."""

    def report(self) -> dict[str, Any]:
        """JSON-serialisable: pairs a second of both, and their ratio with its quartiles."""
        ours, plain = (self.pairs / np.array(seconds) for seconds in (self.cost.seconds, self.cost.bare_seconds))
        low, middle, high = np.quantile(ours / plain, [0.25, 0.5, 0.75])
        return {
            "pairs": self.pairs,
            "pairs_per_second": float(np.median(ours)),
            "plain_pairs_per_second": float(np.median(plain)),
            "speed_up": float(middle),
            "speed_up_lower_quartile": float(low),
            "speed_up_upper_quartile": float(high),
            "rounds": len(ours),
            "largest_difference": self.largest_difference,
        }


def benchmark_extraction(
    source: PairSource,
    extractor: UniversalExtractor,
    *,
    batch_size: int,
    workers: int,
    rounds: int,
    warm_up: bool = True,
    on_round: Callable[[ExtractionBenchmark], None] = lambda measured: None,
) -> ExtractionBenchmark:
    """Time both over all records of ``source``, which must all be usable.

    Args:
        warm_up: False leaves out the run of each that is not counted, where the extractor ran before.
        on_round: told what was measured so far after each round.

    Raises:
        ValueError: if ``rounds`` is below 1 or a record is unusable.
    """
    from explorer.embeddings.extract import ExtractionSettings, extract_embeddings

    settings = ExtractionSettings(batch_size=batch_size)
    results: dict[str, Any] = {}

    def ours() -> None:
        # A new store each time; removing it is part of the time, and against us.
        with tempfile.TemporaryDirectory(prefix="embeddings") as folder:
            store = extract_embeddings(source, Path(folder) / "store", extractor, settings, workers=workers)
            results["ours"] = store.image.stored(), store.text.stored()

    def plain() -> None:
        results["plain"] = plain_loop(source, extractor, batch_size, settings.squared_for(extractor).size)

    def measured(seconds: dict[str, tuple[float, ...]]) -> ExtractionBenchmark:
        return _compared(results, CostRatio(seconds=seconds["ours"], bare_seconds=seconds["plain"]))

    works = {"ours": ours, "plain": plain}
    return measured(take_turns(works, rounds, warm_up=warm_up, on_round=lambda seconds: on_round(measured(seconds))))


def _compared(results: dict[str, Any], cost: CostRatio) -> ExtractionBenchmark:
    """Seconds of both with the largest difference of what they computed."""
    pairs = len(results["plain"][0])
    if len(results["ours"][0]) != pairs:
        unusable = pairs - len(results["ours"][0])
        raise ValueError(f"{unusable} of {pairs} pairs were set aside: expected a source of usable pairs only")
    both = zip(results["ours"], results["plain"], strict=True)
    difference = max(float(np.abs(stored - plain).max()) for stored, plain in both)
    return ExtractionBenchmark(pairs=pairs, cost=cost, largest_difference=difference)


def plain_loop(
    source: PairSource, extractor: UniversalExtractor, batch_size: int, size: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """What one writes first: float32 image and text features ``[N, d]``, batch after batch.

    Args:
        size: pixels a side that pictures are squared to; None leaves them as they are.
    """
    import torch
    from torch.nn import functional

    images, texts, stream = [], [], source.records()
    with torch.no_grad():
        while records := list(islice(stream, batch_size)):
            pictures = [np.array(Image.open(io.BytesIO(record.image)).convert("RGB")) for record in records]
            if size is not None:
                pictures = [square_thumbnail(picture, size) for picture in pictures]
            pixels = torch.cat([extractor.preprocess(picture[None]) for picture in pictures])
            tokens = extractor.tokenize([record.caption for record in records])
            image = extractor.clip.encode_image(pixels.to(extractor.device))
            text = extractor.clip.encode_text(tokens.to(extractor.device))
            images.append(functional.normalize(image.float(), dim=-1).cpu().numpy())
            texts.append(functional.normalize(text.float(), dim=-1).cpu().numpy())
    return np.concatenate(images), np.concatenate(texts)


def write_benchmark_shard(path: Path, *, pairs: int, side: int, seed: int) -> None:
    """A webdataset shard of captioned IconWorld scenes, enlarged to ``side`` pixels, as JPEG of quality 95."""
    world = World()
    drawn = draw_pairs(world, pairs, np.random.default_rng(seed))
    images = paint_all(world, [pair.scene for pair in drawn])

    def encoded(image: np.ndarray) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=95)
        return stream.getvalue()

    with tarfile.open(path, "w") as archive, ThreadPoolExecutor() as threads:
        for number, (pair, jpeg) in enumerate(zip(drawn, threads.map(encoded, images), strict=True)):
            for extension, data in (("jpg", jpeg), ("txt", pair.caption.encode())):
                member = tarfile.TarInfo(f"{number:09d}.{extension}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
