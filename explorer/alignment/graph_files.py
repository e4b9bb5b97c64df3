"""What the screen *Graphs* draws of one set of pairs: a header, binary columns, and thumbnails of some of them.

``graphs.json`` describes the set and says where each column stands in ``columns.bin``; ``thumbnails.png`` holds
pictures of a sample. All three are written for any pairs that have features: a pair set's, a store's, a study's arm.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from explorer.alignment.graph_columns import text_columns, write_columns
from explorer.alignment.graph_sample import (
    MOVERS,
    biggest_first,
    describe_sample,
    movers_and_sample,
    movers_drawn,
    shown_concepts,
    stratified_sample,
    texts,
)
from explorer.alignment.graphs import FeatureGraph, PairGraphs, build_graphs
from explorer.alignment.layouts import LAYOUT_NEIGHBOURS, LEAST_DISTANCE
from explorer.alignment.payload_formats import COLUMNS_NAME, GRAPHS, THUMBNAILS_NAME
from explorer.alignment.scores import descending_ranks
from explorer.core.progress import OnProgress, unheard
from explorer.core.provenance import replacing
from explorer.pairs.poison_flags import PoisonFlags, recorded_by_flags

if TYPE_CHECKING:
    import pandas
    import torch

MOST_DRAWN = 50_000
"""Pairs that a browser draws at once; of larger sets the biggest movers and a sample are drawn."""
THUMBNAIL_SIZE = 48
THUMBNAIL_COLUMNS = 40
THUMBNAIL_LIMIT = 1200
"""Pairs with a thumbnail, so that the sheet stays below a megabyte or so."""
BENIGN, POISONED, UNRECORDED = 0, 1, 2
"""In the column ``kind``."""


def write_graphs(
    folder: Path,
    *,
    name: str,
    table: pandas.DataFrame,
    image: torch.Tensor | np.ndarray,
    text: torch.Tensor | np.ndarray,
    scores: Mapping[str, np.ndarray],
    facts: Mapping[str, Any] | None = None,
    read_images: Callable[[np.ndarray], np.ndarray] | None = None,
    arm_rows: np.ndarray | None = None,
    most_drawn: int = MOST_DRAWN,
    neighbours: int = 8,
    seed: int = 0,
    on_progress: OnProgress = unheard,
) -> list[str]:
    """Write one set's files into ``folder``; return their names.

    Args:
        name: of the set, as the screen calls it.
        table: a row a pair. ``uid`` must be there; ``caption``, ``concepts``, ``is_poison``, ``poisoned_concept`` and
            ``target_concept`` may be absent or null, which is not recorded.
        image: `[N, d]` L2-normalised image features, a row a pair.
        text: `[N, d]` L2-normalised text features.
        scores: name to fp `[N]`, ``structure_distance`` among them; NaN where a pair was not measured.
        facts: JSON-serialisable, shown beside the graphs: ``data_hash``, ``extractor``, ``alpha``, ``convention``,
            ``feature_range``, ``loss_model``.
        read_images: rows of the table to uint8 pictures ``[n, H, W, 3]``; None draws without thumbnails.
        arm_rows: int `[N]`, where each pair stands in its arm's own table, by which further pictures are asked for;
            None for pairs that are no arm's.
        most_drawn: of a larger set so many are drawn, the biggest movers and a stratified sample of the others.
        neighbours: k of the drawn graphs.
        seed: of the samples and of both layouts.
        on_progress: told of the search for neighbours and of the layouts.

    Raises:
        ValueError: if table, features and scores are not of the same pairs, or on what ``build_graphs`` refuses.
    """
    _check_lengths(table, image, text, scores)
    drawn = None
    if len(table) > most_drawn:
        drawn = movers_and_sample(_completed(table), np.asarray(scores["structure_distance"]), most_drawn, seed)
    graphs = build_graphs(image, text, rows=drawn, neighbours=neighbours, seed=seed, on_progress=on_progress)
    return write_built_graphs(
        folder, graphs, name=name, table=table, scores=scores, facts=facts, read_images=read_images, arm_rows=arm_rows
    )


def write_built_graphs(
    folder: Path,
    graphs: PairGraphs,
    *,
    name: str,
    table: pandas.DataFrame,
    scores: Mapping[str, np.ndarray],
    facts: Mapping[str, Any] | None = None,
    read_images: Callable[[np.ndarray], np.ndarray] | None = None,
    arm_rows: np.ndarray | None = None,
) -> list[str]:
    """Write graphs that are there already; arguments and result as of :func:`write_graphs`."""
    table, drawn = _completed(table), graphs.rows
    flags, shown = PoisonFlags.of(table), table.iloc[drawn]
    vocabulary = sorted({*shown_concepts(shown), *_mentioned(shown)} - {""})
    columns = {
        **_pair_columns(shown, vocabulary),
        **_score_columns(scores, drawn),
        **_side_columns("text", graphs.text, drawn),
        **_side_columns("image", graphs.image, drawn),
    }
    if arm_rows is not None:
        columns["row"] = np.asarray(arm_rows)[drawn].astype(np.uint32)
    folder.mkdir(parents=True, exist_ok=True)
    structure_distance = np.asarray(scores["structure_distance"])
    if read_images is not None:
        pictured = _pictured(shown, structure_distance[drawn], graphs.seed)
        columns["thumbnail"] = np.full(len(drawn), -1, np.int32)
        columns["thumbnail"][pictured] = np.arange(len(pictured))
        thumbnail_sheet(read_images(drawn[pictured])).save(folder / THUMBNAILS_NAME, optimize=True)
    header = GRAPHS.written(
        set={
            "name": name,
            "pairs": len(table),
            "poison_recorded": flags.recorded,
            **flags.counts(),
            "poisoned_concept_count": recorded_by_flags(table).concept_count,
        },
        facts=dict(facts or {}),
        sampling=_describe_sampling(flags, graphs, structure_distance),
        layout=_describe_layout(graphs),
        neighbour_count=int(graphs.text.neighbours.shape[1]),
        scores=list(scores),
        measured={score: int(np.isfinite(values).sum()) for score, values in scores.items()},
        concepts=vocabulary,
        thumbnails=None if read_images is None else {"size": THUMBNAIL_SIZE, "columns": THUMBNAIL_COLUMNS},
        columns=write_columns(folder / COLUMNS_NAME, columns),
    )
    write_compact(folder / GRAPHS.name, header)
    return [GRAPHS.name, COLUMNS_NAME, *([] if read_images is None else [THUMBNAILS_NAME])]


def _pictured(table: pandas.DataFrame, structure_distance: np.ndarray, seed: int) -> np.ndarray:
    """Ascending rows of the pairs that get a thumbnail: the biggest movers and a stratified sample."""
    movers = biggest_first(structure_distance)[:MOVERS]
    return np.union1d(movers, stratified_sample(table, THUMBNAIL_LIMIT - MOVERS, seed))


def _check_lengths(
    table: pandas.DataFrame,
    image: torch.Tensor | np.ndarray,
    text: torch.Tensor | np.ndarray,
    scores: Mapping[str, np.ndarray],
) -> None:
    lengths = {"image features": len(image), "text features": len(text)}
    lengths |= {f"scores {name}": len(values) for name, values in scores.items()}
    if wrong := [f"{length} {name}" for name, length in lengths.items() if length != len(table)]:
        raise ValueError(f"got {', '.join(wrong)} for {len(table)} pairs: expected as many")
    if "structure_distance" not in scores:
        raise ValueError(f"got scores {', '.join(scores)}: expected structure_distance among them")


def _completed(table: pandas.DataFrame) -> pandas.DataFrame:
    """``table`` with every column that pairs may have, null where nothing is recorded."""
    absent = {name: None for name in ("caption", "is_poison", "poisoned_concept", "target_concept")
              if name not in table}  # fmt: skip
    listed = [list(found) if found is not None else [] for found in table["concepts"]] if "concepts" in table else None
    return table.assign(**absent, concepts=listed or [[] for _ in range(len(table))])


def _mentioned(table: pandas.DataFrame) -> set[str]:
    named = {concept for mentioned in table["concepts"] for concept in mentioned}
    return named | {concept for concept in texts(table["target_concept"]) if concept}


def _pair_columns(table: pandas.DataFrame, vocabulary: list[str]) -> dict[str, np.ndarray]:
    """Texts, flags and concepts; concepts are numbers in ``vocabulary``, -1 for none or none recorded."""
    number = {concept: index for index, concept in enumerate(vocabulary)}

    def numbers(names: list[str | None]) -> np.ndarray:
        return np.array([number.get(name, -1) for name in names], dtype=np.int32)

    flags = PoisonFlags.of(table)
    return {
        "kind": np.select([flags.poisoned, flags.benign], [POISONED, BENIGN], UNRECORDED).astype(np.uint8),
        "main_concept": numbers(shown_concepts(table)),
        "poisoned_concept": numbers(texts(table["poisoned_concept"])),
        "target_concept": numbers(texts(table["target_concept"])),
        "concepts": numbers([concept for mentioned in table["concepts"] for concept in mentioned]),
        "concepts_ends": np.cumsum([len(mentioned) for mentioned in table["concepts"]]).astype(np.uint32),
        **text_columns("uid", table["uid"].astype(str)),
        **text_columns("caption", [caption or "" for caption in texts(table["caption"])]),
    }


def _score_columns(scores: Mapping[str, np.ndarray], drawn: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of the drawn pairs and their first and last place among all that were measured; 0 for no place."""
    columns = {}
    for name, values in scores.items():
        values = np.asarray(values, dtype=np.float64)
        measured = np.isfinite(values)
        columns[name] = values[drawn].astype(np.float32)
        for end, ranks in descending_ranks(values[measured]).items():
            places = np.zeros(len(values), np.int32)
            places[measured] = ranks
            columns[f"{name}_{end}"] = places[drawn]
    return columns


def _side_columns(side: str, graph: FeatureGraph, drawn: np.ndarray) -> dict[str, np.ndarray]:
    """Layout and neighbours of one side. A neighbour that is not drawn is ``-1 - row``, its row in the set."""
    position = np.minimum(np.searchsorted(drawn, graph.neighbours), len(drawn) - 1)
    is_drawn = drawn[position] == graph.neighbours
    return {
        f"{side}_layout": graph.layout,
        f"{side}_neighbours": np.where(is_drawn, position, -1 - graph.neighbours).astype(np.int32),
        f"{side}_similarities": graph.similarities.astype(np.float32),
    }


def _describe_sampling(flags: PoisonFlags, graphs: PairGraphs, structure_distance: np.ndarray) -> dict[str, Any]:
    """``movers``: how many of the set's biggest movers are all drawn."""
    movers = movers_drawn(structure_distance, graphs.rows)
    method = describe_sample(flags, graphs.rows, movers)
    return {"pairs": len(graphs), "seed": graphs.seed, "movers": movers, "method": method}


def _describe_layout(graphs: PairGraphs) -> dict[str, Any]:
    return {
        "method": f"UMAP, cosine, {LAYOUT_NEIGHBOURS} neighbours, min_dist {LEAST_DISTANCE:g}",
        "seed": graphs.seed,
        "text": graphs.text.quality.as_dict(),
        "image": graphs.image.quality.as_dict(),
    }


def thumbnail_sheet(images: np.ndarray) -> Any:
    """Pictures uint8 `[n, H, W, 3]` as one palette PIL image, ``THUMBNAIL_COLUMNS`` cells of 48 px a row."""
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
