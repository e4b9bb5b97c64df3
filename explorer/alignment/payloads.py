"""What the screens *Graphs* and *Alignment difficulty* show at first sight.

``alignment.json`` describes every pair set (AD, distributions, mean offset); ``graphs/NAME`` holds the graphs of the
most poisoned one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.alignment.description import describe_measurement, significant
from explorer.alignment.graph_files import MOST_DRAWN, write_compact, write_graphs
from explorer.alignment.pair_sets import SCORES, Measurement, measure
from explorer.alignment.payload_formats import ALIGNMENT, GRAPHS_FOLDER

if TYPE_CHECKING:
    import pandas

    from explorer.pairs.pair_set import PairSet


@dataclass(frozen=True, kw_only=True, eq=False)
class MeasuredSet:
    """A named pair set and the AD of its pairs."""

    name: str
    pair_set: PairSet
    measured: Measurement

    @property
    def table(self) -> pandas.DataFrame:
        """The measured pairs, in the order of the scores."""
        return self.pair_set.table.iloc[self.measured.rows]


@dataclass(frozen=True, kw_only=True)
class PairLosses:
    """Denoising losses of pairs by one model."""

    model: str
    """Name of the model."""
    measure: Callable[[np.ndarray, list[str]], np.ndarray]
    """uint8 pictures ``[n, H, W, 3]`` and n captions to losses ``[n]``."""


def write_alignment_artefacts(
    folder: Path | str,
    sets: dict[str, PairSet],
    extractor: Any,
    *,
    most_drawn: int = MOST_DRAWN,
    neighbours: int = 8,
    seed: int = 0,
    alpha: float = 0.8,
    convention: str = "authors",
    split: str | None = "train",
    losses: PairLosses | None = None,
) -> list[str]:
    """Write these files into ``folder``; return their names for the manifest.

    Args:
        sets: name to pair set, the benign control among them; the most poisoned one is drawn as graphs.
        extractor: a universal extractor: ``name``, ``encode_images``, ``encode_texts``, ``feature_range``.
        most_drawn: of a larger set, the Graphs screen shows a sample of this size.
        neighbours: k of the drawn graphs.
        seed: of the samples and of both layouts.
        split: which pairs of each set are measured; None for all.
        losses: gives the pairs of the drawn set their denoising loss as well.

    Raises:
        ValueError: without a set, or where a sample is too small for its graphs.
    """
    if not sets:
        raise ValueError("got no pair set: expected at least one")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"alpha": alpha, "convention": convention, "split": split}
    measured = [
        MeasuredSet(name=name, pair_set=pair_set, measured=measure(pair_set, extractor, **settings))
        for name, pair_set in sets.items()
    ]
    described = [describe_measurement(entry.name, entry.pair_set, entry.measured) for entry in measured]
    order = sorted(
        range(len(sets)), key=lambda row: (described[row]["poisoned_concept_count"] or 0, measured[row].name)
    )
    write_compact(folder / ALIGNMENT.name, ALIGNMENT.written(sets=[described[row] for row in order]))
    drawn = _write_graphs(folder, measured[order[-1]], extractor, losses=losses, most_drawn=most_drawn,
                          neighbours=neighbours, seed=seed)  # fmt: skip
    return [ALIGNMENT.name, *drawn]


def _write_graphs(
    folder: Path, drawn: MeasuredSet, extractor: Any, *, losses: PairLosses | None, **settings: Any
) -> list[str]:
    """Draw one set's measured pairs; return the files' names relative to ``folder``."""
    from explorer.embeddings.features import pair_features

    rows, difficulty = drawn.measured.rows, drawn.measured.difficulty
    image, text = (features[rows] for features in pair_features(drawn.pair_set, extractor))
    scores = {name: getattr(difficulty, name).numpy() for name in SCORES}
    if losses is not None:
        captions = drawn.table["caption"].tolist()
        scores["loss"] = losses.measure(drawn.pair_set.read_images(rows), captions)
    facts = {
        "data_hash": drawn.pair_set.data_hash,
        "extractor": drawn.measured.extractor,
        "alpha": difficulty.alpha,
        "convention": difficulty.convention,
        "feature_range": significant(difficulty.feature_range),
        "loss_model": None if losses is None else losses.model,
    }
    place = f"{GRAPHS_FOLDER}/{drawn.name}"
    names = write_graphs(
        folder / place, name=drawn.name, table=drawn.table, image=image, text=text, scores=scores, facts=facts,
        read_images=lambda positions: drawn.pair_set.read_images(rows[positions]), **settings,
    )  # fmt: skip
    return [f"{place}/{name}" for name in names]
