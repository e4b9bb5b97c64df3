"""What the screens *Graphs* and *Alignment difficulty* show at first sight: two JSON files and a thumbnail sheet.

``alignment.json`` describes every pair set (AD, distributions, mean offset); ``graphs.json`` draws a labelled,
stratified sample of the most poisoned one, whose scores are nevertheless those of the whole set;
``thumbnails.png`` holds the sample's pictures.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.alignment.description import describe_measurement, poisoned_concept_count, significant
from explorer.alignment.graphs import FeatureGraph, PairGraphs, biggest_movers, build_graphs
from explorer.alignment.pair_sets import SCORES, Measurement, measure
from explorer.alignment.payload_formats import ALIGNMENT, GRAPHS, THUMBNAILS_NAME
from explorer.alignment.scores import descending_ranks
from explorer.core.provenance import replacing
from explorer.pairs.poison_flags import PoisonFlags

if TYPE_CHECKING:
    import pandas

    from explorer.alignment.difficulty import AlignmentDifficulty
    from explorer.pairs.pair_set import PairSet

THUMBNAIL_SIZE = 48
THUMBNAIL_COLUMNS = 40
SMALLEST_POISONED_SHARE = 0.4
"""A sample shows at least this share of poisoned pairs (where there are as many), so that both kinds are seen."""
MOVERS = 24


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
    sample_size: int = 1200,
    neighbours: int = 8,
    seed: int = 0,
    alpha: float = 0.8,
    convention: str = "authors",
    split: str | None = "train",
    losses: PairLosses | None = None,
) -> list[str]:
    """Write the three files into ``folder``; return their names for the manifest.

    Args:
        sets: name to pair set, the benign control among them; the most poisoned one is drawn as graphs.
        extractor: a universal extractor: ``name``, ``encode_images``, ``encode_texts``, ``feature_range``.
        sample_size: pairs drawn on the Graphs screen, at most the set's size.
        seed: of the sample and of both layouts.
        split: which pairs of each set are measured; None for all.
        losses: gives the drawn pairs their denoising loss as well.

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
    _write_graphs(folder, measured[order[-1]], extractor, sample_size=sample_size, neighbours=neighbours, seed=seed,
                  losses=losses)  # fmt: skip
    return [ALIGNMENT.name, GRAPHS.name, THUMBNAILS_NAME]


def _write_graphs(
    folder: Path,
    drawn: MeasuredSet,
    extractor: Any,
    *,
    sample_size: int,
    neighbours: int,
    seed: int,
    losses: PairLosses | None,
) -> None:
    from explorer.embeddings.features import pair_features

    positions = stratified_sample(drawn.table, sample_size, seed)
    rows = drawn.measured.rows[positions]
    image, text = (features[rows].float().numpy() for features in pair_features(drawn.pair_set, extractor))
    graphs = build_graphs(image, text, neighbours=neighbours, seed=seed)
    described = describe_graphs(drawn, positions, graphs, image, text)
    if losses is not None:
        measured = losses.measure(drawn.pair_set.read_images(rows), described["samples"]["caption"])
        described["samples"]["loss"] = significant(measured)
        described["loss_model"] = losses.model
    write_compact(folder / GRAPHS.name, described)
    thumbnail_sheet(drawn.pair_set.read_images(rows)).save(folder / THUMBNAILS_NAME, optimize=True)


def stratified_sample(table: pandas.DataFrame, size: int, seed: int) -> np.ndarray:
    """Sorted rows of a sample: poisoned and other pairs in fixed shares, concepts in proportion within each.

    The share known to be poison is that of the set, but at least ``SMALLEST_POISONED_SHARE``; within a kind, the pairs
    are shuffled, ordered by main concept and taken at even steps (systematic sampling).
    """
    if size < 1:
        raise ValueError(f"sample size is {size}: expected at least 1")
    poisoned = PoisonFlags.of(table).poisoned
    size = min(size, len(table))
    wanted = round(size * max(poisoned.mean(), SMALLEST_POISONED_SHARE))
    # What one kind cannot fill goes to the other.
    poison_size = max(min(wanted, int(poisoned.sum())), size - int((~poisoned).sum()))
    generator = np.random.default_rng(seed)
    concepts = np.array(main_concepts(table))
    parts = [
        _systematic(np.flatnonzero(kind), concepts, count, generator)
        for kind, count in ((~poisoned, size - poison_size), (poisoned, poison_size))
    ]
    return np.sort(np.concatenate(parts))


def _systematic(rows: np.ndarray, concepts: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    shuffled = generator.permutation(rows)
    ordered = shuffled[np.argsort(concepts[shuffled], kind="stable")]
    return ordered[(np.arange(count) * len(ordered)) // max(count, 1)]


def main_concepts(table: pandas.DataFrame) -> list[str]:
    """The concept each caption is about: the poisoned one, or else the one it mentions first."""
    columns = zip(_texts(table["poisoned_concept"]), table["concepts"], strict=True)
    return [poisoned or (mentioned[0] if len(mentioned) else "") for poisoned, mentioned in columns]


def _texts(column: pandas.Series) -> list[str | None]:
    """A column of texts, None where nothing is recorded."""
    return column.astype(object).where(column.notna(), None).tolist()


def describe_graphs(
    drawn: MeasuredSet, positions: np.ndarray, graphs: PairGraphs, image: np.ndarray, text: np.ndarray
) -> dict[str, Any]:
    """Content of ``graphs.json``: parallel lists over the sampled pairs, scores and ranks of the whole set.

    Args:
        positions: int `[n]`, the sample among the measured pairs.
        image: `[n, d]` unit image features of the sample.
        text: `[n, d]` its unit text features.
    """
    difficulty, flags = drawn.measured.difficulty, drawn.measured.flags
    sampled = drawn.table.iloc[positions]
    movers = biggest_movers(difficulty.structure_distance[positions], min(MOVERS, len(positions)))
    return GRAPHS.written(
        set={
            "name": drawn.name,
            "pairs": len(flags),
            "poison_recorded": flags.recorded,
            **flags.counts(),
            "poisoned_concept_count": poisoned_concept_count(drawn.pair_set, drawn.measured),
            "data_hash": drawn.pair_set.data_hash,
        },
        extractor=drawn.measured.extractor,
        alpha=difficulty.alpha,
        convention=difficulty.convention,
        feature_range=significant(difficulty.feature_range),
        sampling=_describe_sampling(flags, positions, graphs.seed),
        neighbour_count=int(graphs.text.neighbours.shape[1]),
        thumbnails={"size": THUMBNAIL_SIZE, "columns": THUMBNAIL_COLUMNS},
        samples={**_describe_pairs(sampled), **_describe_scores(difficulty, positions)},
        text=_describe_side(graphs.text, text),
        image=_describe_side(graphs.image, image),
        movers=movers.tolist(),
    )


def _describe_sampling(flags: PoisonFlags, positions: np.ndarray, seed: int) -> dict[str, Any]:
    drawn = flags[positions]

    def share(kind: str) -> str:
        return f"{int(getattr(drawn, kind).sum()):,} of {int(getattr(flags, kind).sum()):,}"

    kinds = f"{share('poisoned')} poisoned and {share('benign')} benign ones, each kind in proportion to its concepts"
    if flags.unrecorded.all():
        kinds = "in proportion to their concepts; which of them are poison, nobody recorded"
    elif not flags.recorded:
        kinds = (
            f"{share('poisoned')} known to be poisoned, {share('benign')} known to be benign, {share('unrecorded')} of "
            "which nobody recorded it; in proportion to their concepts"
        )
    return {
        "pairs": len(drawn),
        **drawn.counts(),
        "seed": seed,
        "method": (
            f"{len(drawn):,} of {len(flags):,} pairs are drawn: {kinds}. Scores and ranks are those of the whole set, "
            "neighbours those within the sample."
        ),
    }


def _describe_pairs(sampled: pandas.DataFrame) -> dict[str, list[Any]]:
    return {
        "uid": sampled["uid"].tolist(),
        "caption": sampled["caption"].tolist(),
        "concepts": [list(mentioned) for mentioned in sampled["concepts"]],
        "main_concept": main_concepts(sampled),
        "is_poison": [None if flag is None else int(flag) for flag in PoisonFlags.of(sampled).as_list()],
        "poisoned_concept": _texts(sampled["poisoned_concept"]),
        "target_concept": _texts(sampled["target_concept"]),
    }


def _describe_scores(difficulty: AlignmentDifficulty, positions: np.ndarray) -> dict[str, list[Any]]:
    described: dict[str, list[Any]] = {}
    for name in SCORES:
        scores = getattr(difficulty, name).numpy()
        described[name] = significant(scores[positions])
        for end, ranks in descending_ranks(scores).items():
            described[f"{name}_{end}"] = ranks[positions].tolist()
    return described


def _describe_side(side: FeatureGraph, features: np.ndarray) -> dict[str, list[Any]]:
    """Layout, neighbours and their cosines (the weights of the edges) on one side."""
    cosines = np.einsum("nd,nkd->nk", features, features[side.neighbours])
    return {
        "layout": np.round(side.layout.astype(float), 4).tolist(),
        "neighbours": side.neighbours.tolist(),
        "similarities": np.round(cosines.astype(float), 3).tolist(),
    }


def thumbnail_sheet(images: np.ndarray) -> Any:
    """Pictures uint8 `[n, H, W, 3]` as one palette PIL image, ``THUMBNAIL_COLUMNS`` cells of 48 px a row."""
    from PIL import Image

    lines = -(-len(images) // THUMBNAIL_COLUMNS)
    sheet = Image.new("RGB", (THUMBNAIL_COLUMNS * THUMBNAIL_SIZE, lines * THUMBNAIL_SIZE))
    for position, pixels in enumerate(images):
        cell = Image.fromarray(pixels).resize((THUMBNAIL_SIZE, THUMBNAIL_SIZE), Image.Resampling.LANCZOS)
        line, column = divmod(position, THUMBNAIL_COLUMNS)
        sheet.paste(cell, (column * THUMBNAIL_SIZE, line * THUMBNAIL_SIZE))
    return sheet.quantize(256, dither=Image.Dither.NONE)


def write_compact(path: Path, value: Any) -> None:
    """Write JSON without spaces, by atomic rename: these files are read by a browser, not by a person."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, separators=(",", ":"), allow_nan=False) + "\n", encoding="utf-8")
