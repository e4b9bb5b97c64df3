"""What a filter costs at rest and while its cut moves: curves of AD over every rank, and one answer of the library.

Pairs, features and scores are made up. The peer of the curves is a pass over the tiles for each score
(:func:`sorted_pass`): rows sorted by the score, every pair's disparities to those behind it.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import torch

from explorer.alignment.structure.tiles import TorchTiles, choose_block, exact_products, upper_tiles
from explorer.core.progress import OnProgress, note, unheard
from explorer.core.provenance import code_version
from explorer.defence.filter_files import Score, ScoredPairs, write_filters
from explorer.defence.payload_formats import FILTERS
from explorer.defence.recipe import order_of_suspicion, read_recipe
from explorer.defence.remaining import kept_structure_curves
from explorer.defence.report import filter_report
from explorer.defence.scores import FEATURE, describe_users

MOVE_GOAL_MILLISECONDS = 50.0
"""Of a cut that moves, and what is counted of it."""
MEMORY_GOAL_GIGABYTES = 1.0
"""Of the process that answers, all scores held."""
CONCEPTS = 500
POISONED_SHARE = 0.2
UNKNOWN_SHARE = 0.1
"""Of one score, as of a loss that only a sample has."""


def benchmark_filters(
    pairs: int,
    *,
    scores: int = 12,
    d: int = 512,
    rounds: int = 9,
    peer: bool = True,
    seed: int = 0,
    on_progress: OnProgress = unheard,
) -> dict[str, Any]:
    """Figures of ``pairs`` made-up pairs with ``scores`` scores; JSON-serialisable.

    Args:
        d: width of the features.
        rounds: of the moves; median and quartiles are reported.
        peer: whether the pass over the tiles for one score is measured, too.
        seed: decides the pairs.
    """
    random = np.random.default_rng(seed)
    made = _made_up_scores(pairs, scores, random)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        on_progress(note(f"{pairs:,} pairs with {scores} scores are graded and written"))
        _, written = _timed(lambda: _write(folder, made, random))
        columns = folder / "columns.bin"
        report = {
            "pairs": pairs, "scores": scores, "d": d, "threads": torch.get_num_threads(),
            "code_version": code_version(),
            "goals": {"move_milliseconds": MOVE_GOAL_MILLISECONDS, "memory_gigabytes": MEMORY_GOAL_GIGABYTES},
            "grading_and_writing_seconds": written, "columns_megabytes": columns.stat().st_size / 1e6,
        }  # fmt: skip
        held, opened = _timed(lambda: ScoredPairs.read(folder / FILTERS.name, columns))
        report |= {"opening_seconds": opened, **_moves(held, rounds), "memory_gigabytes": _peak_gigabytes()}
    return report | _curves(made, d, peer, random, on_progress)


def _made_up_scores(pairs: int, scores: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    names = (FEATURE, *(f"score {number}" for number in range(1, scores)))
    made = {name: random.normal(size=pairs).astype(np.float32) for name in names}
    made[names[-1]][random.random(pairs) < UNKNOWN_SHARE] = np.nan
    return made


def _write(folder: Path, made: dict[str, np.ndarray], random: np.random.Generator) -> None:
    pairs = len(next(iter(made.values())))
    concept = random.integers(0, CONCEPTS, pairs)
    table = pandas.DataFrame(
        {
            "uid": [f"{row:032x}" for row in range(pairs)],
            "caption": [f"a made-up caption of concept {number}, pair {row}" for row, number in enumerate(concept)],
            "concepts": [[f"concept {number}"] for number in concept],
            "is_poison": random.random(pairs) < POISONED_SHARE, "poisoned_concept": None, "target_concept": None,
        }
    )  # fmt: skip
    scores = {
        name: Score(
            values=values, description=describe_users(name), provenance="made up",
            kept_structure_ad=np.linspace(0.4, 0.2, int((~np.isnan(values)).sum()) + 1),
        )
        for name, values in made.items()
    }  # fmt: skip
    alignment = {"alpha": 0.8, "convention": "authors", "feature_ad": 0.5, "structure_ad": 0.4, "ad": 0.48}
    write_filters(folder, name="made up", table=table, rows=np.arange(pairs), scores=scores, alignment=alignment,
                  data_hash="made up")  # fmt: skip


def _moves(held: Any, rounds: int) -> dict[str, Any]:
    """Milliseconds of a cut at a new place: what is removed, and the whole report of it."""

    def unasked(kept: np.ndarray) -> float:
        raise ValueError("the benchmark's cuts are on the curves")

    names = list(held.scores)

    def cut(step: int) -> dict[str, Any]:
        return {"score": names[step % len(names)], "remove": "highest", "cut": {"budget": 0.05 + 0.04 * (step % 20)}}

    def joined(step: int) -> dict[str, Any]:
        return {"any": [cut(step), cut(step + 1), cut(step + 2)]}

    held.removal(read_recipe(cut(0)))
    return {
        "removal_milliseconds": _milliseconds(lambda step: held.removal(read_recipe(cut(step))), rounds),
        "removal_of_three_milliseconds": _milliseconds(lambda step: held.removal(read_recipe(joined(step))), rounds),
        "report_milliseconds": _milliseconds(lambda step: filter_report(held, read_recipe(cut(step)), unasked), rounds),
    }


def _curves(
    made: dict[str, np.ndarray], d: int, peer: bool, random: np.random.Generator, on_progress: OnProgress
) -> dict[str, Any]:
    """Seconds of the curves of all scores, and of the peer for one score and so for all."""
    pairs = len(next(iter(made.values())))
    drawn = (torch.from_numpy(random.normal(size=(pairs, d)).astype(np.float32)) for _ in range(2))
    image, text = (torch.nn.functional.normalize(rows) for rows in drawn)
    orders = {name: order_of_suspicion(values, "highest") for name, values in made.items()}
    curves, seconds = _timed(lambda: kept_structure_curves(image, text, orders, on_progress=on_progress))
    report = {"curves_seconds": seconds, "memory_with_curves_gigabytes": _peak_gigabytes()}
    if not peer:
        return report
    name, order = next(iter(orders.items()))
    on_progress(note("the peer: a pass over the tiles for one score"))
    theirs, one = _timed(lambda: sorted_pass(image, text, order))
    deviation = np.nanmax(np.abs(theirs - curves[name]) / np.nanmax(curves[name]))
    return report | {"pass_for_one_score_seconds": one, "passes_for_all_scores_seconds": one * len(orders),
                     "largest_deviation": float(deviation)}  # fmt: skip


def sorted_pass(image: Any, text: Any, order: np.ndarray) -> np.ndarray:
    """The curve of one order of all pairs, fp64 `[N + 1]`, by a pass of its own: rows are sorted, and what a tile on or
    above the diagonal has right of a row is what that pair has with those behind it."""
    chosen, n = torch.from_numpy(order), len(order)
    later, block = torch.zeros(n, dtype=torch.float64), choose_block(image.device, n)
    with exact_products(image.device):
        tiles = TorchTiles(image[chosen], text[chosen], precision="fp32", block=block)
        for rows, columns in upper_tiles(n, block):
            tile = tiles.product(rows, columns).abs_()
            later[rows] += (tile.triu_(diagonal=1) if rows == columns else tile).sum(dim=1)
    remaining = 2 * np.append(np.cumsum(later.numpy()[::-1])[::-1], 0.0)
    left = (n - np.arange(n + 1)).astype(np.float64)
    return np.divide(remaining, left**2, out=np.full(n + 1, np.nan), where=left > 0)


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    return work(), time.perf_counter() - began


def _milliseconds(work: Callable[[int], Any], rounds: int) -> dict[str, float]:
    took = [1000 * _timed(lambda step=step: work(step))[1] for step in range(rounds)]
    low, middle, high = np.percentile(took, [25, 50, 75]).tolist()
    return {"median": middle, "low": low, "high": high}


def _peak_gigabytes() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def markdown(report: dict[str, Any]) -> str:
    """The figures as a table."""
    head = f"| {report['pairs']:,} pairs, {report['scores']} scores, d = {report['d']} | measured | goal |"
    goals = {"report_milliseconds": MOVE_GOAL_MILLISECONDS, "memory_gigabytes": MEMORY_GOAL_GIGABYTES}
    lines = [head, "|---|---:|---:|"]
    for name, value in report.items():
        if name in ("pairs", "scores", "d", "threads", "code_version", "goals"):
            continue
        told = (
            f"{value:.3g}" if not isinstance(value, dict) else "{median:.3g} ({low:.3g} to {high:.3g})".format(**value)
        )
        lines.append(f"| {name.replace('_', ' ')} | {told} | {goals.get(name, '–')} |")
    return "\n".join(lines)
