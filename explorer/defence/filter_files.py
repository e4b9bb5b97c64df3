"""What filters cut: a folder with ``filters.json``, which describes a set and its scores, and their columns.

The scores are stored in float32, once, for the browser and for every program alike: both order pairs by the same
numbers and remove the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.alignment.graph_columns import Columns, text_columns, write_columns
from explorer.alignment.graph_files import BENIGN, POISONED, UNRECORDED, write_compact
from explorer.alignment.graph_sample import texts
from explorer.alignment.payload_formats import COLUMNS_NAME
from explorer.core.bounded_files import parse_json
from explorer.defence.collateral import CaptionGroups
from explorer.defence.grading import grade_score
from explorer.defence.pair_sample import first_concepts
from explorer.defence.payload_formats import FILTERS
from explorer.defence.recipe import Filter, Removal, apply_recipe
from explorer.defence.scores import USER, ScoreDescription, describe_users
from explorer.pairs.poison_flags import PoisonFlags

if TYPE_CHECKING:
    import pandas

KEPT = ":kept_structure_ad"
"""After a score's name: structure AD of what remains, by rank."""
BROUGHT = "a file that was brought along"


@dataclass(frozen=True, kw_only=True, eq=False)
class Score:
    """One score of N pairs."""

    values: np.ndarray
    """float32 `[N]`, NaN where unknown."""
    description: ScoreDescription
    provenance: str
    """What it was made from, in words."""
    kept_structure_ad: np.ndarray
    """fp `[n_scored + 1]` of :func:`~explorer.defence.remaining.kept_structure_curves`."""


def write_filters(
    folder: Path,
    *,
    name: str,
    table: pandas.DataFrame,
    rows: np.ndarray,
    scores: Mapping[str, Score],
    alignment: Mapping[str, Any],
    data_hash: str,
) -> None:
    """Write one set's files into ``folder``.

    Args:
        name: of the set.
        table: a row a pair that can be filtered, with ``uid``, ``caption``, ``concepts``, ``is_poison``,
            ``poisoned_concept`` and ``target_concept``.
        rows: int `[N]` where each of them stands in the whole table of the set.
        scores: by name.
        alignment: ``alpha``, ``convention``, ``feature_ad``, ``structure_ad`` and ``ad`` of all of them.
        data_hash: identifies the pairs.
    """
    flags, main = PoisonFlags.of(table), first_concepts(table)
    named = {part: [each or "" for each in texts(table[part])] for part in ("poisoned_concept", "target_concept")}
    concepts = sorted({*main, *named["poisoned_concept"], *named["target_concept"]} - {""})
    number = {concept: at for at, concept in enumerate(concepts)}
    columns = {
        "row": np.asarray(rows).astype(np.uint32),
        "kind": np.select([flags.poisoned, flags.benign], [POISONED, BENIGN], UNRECORDED).astype(np.uint8),
    }
    for part, names in {"main_concept": main, **named}.items():
        columns[part] = np.array([number.get(each, -1) for each in names], np.int32)
    columns |= text_columns("uid", table["uid"].astype(str))
    columns |= text_columns("caption", [caption or "" for caption in texts(table["caption"])])
    for score, held in scores.items():
        columns[score] = held.values.astype(np.float32)
        columns[f"{score}{KEPT}"] = held.kept_structure_ad.astype(np.float32)
    counts = flags.counts()
    folder.mkdir(parents=True, exist_ok=True)
    described = [
        _described(score, held.values.astype(np.float32), held.description, held.provenance, flags)
        for score, held in scores.items()
    ]
    header = FILTERS.written(
        set={"name": name, "pairs": len(table), "benign": counts["benign_pairs"], "poisoned": counts["poisoned_pairs"],
             "unrecorded": counts["unrecorded_pairs"], "data_hash": data_hash},
        concepts=concepts, alignment=dict(alignment), scores=described,
        columns=write_columns(folder / COLUMNS_NAME, columns),
    )  # fmt: skip
    write_compact(folder / FILTERS.name, header)


def _described(
    name: str, values: np.ndarray, described: ScoreDescription, provenance: str, flags: PoisonFlags
) -> dict[str, Any]:
    graded = grade_score(values, described.remove, flags.poisoned, flags.benign)
    half = graded["benign_lost_at_half"]
    return {
        "name": name, "title": described.title, "words": described.words, "remove": described.remove,
        "unscored": int(np.isnan(values).sum()), "auc": graded["auc"],
        "average_precision": graded["average_precision"],
        "at_half_the_poison": None if half is None else {"benign_lost_share": half}, "provenance": provenance,
    }  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredPairs:
    """The pairs of a set that can be filtered, with their scores, as :func:`write_filters` wrote them."""

    header: dict[str, Any]
    """``filters.json``."""
    columns: Columns
    brought: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Further scores, name to float32 `[N]`, that were brought along and are not among the columns."""

    @staticmethod
    def read(header: Path, columns: Path) -> ScoredPairs:
        """From ``filters.json`` and ``columns.bin``.

        Raises:
            ManifestError: if they are of another version or do not fit each other.
        """
        payload = FILTERS.checked(parse_json(header.read_bytes()), "Run the step filters again.")
        return ScoredPairs(header=payload, columns=Columns(columns, payload["columns"]))

    def __len__(self) -> int:
        return self.header["set"]["pairs"]

    @cached_property
    def uids(self) -> list[str]:
        """N names."""
        return self.columns.texts("uid")

    @cached_property
    def captions(self) -> list[str]:
        """N captions, "" where there is none."""
        return self.columns.texts("caption")

    @cached_property
    def caption_groups(self) -> CaptionGroups:
        """Length and script of each caption."""
        return CaptionGroups.of(self.captions)

    @cached_property
    def flags(self) -> PoisonFlags:
        """What is known of each pair; it only grades."""
        kind = self.columns["kind"]
        return PoisonFlags(poisoned=kind == POISONED, benign=kind == BENIGN)

    @property
    def concepts(self) -> list[str]:
        """What the concepts' columns number."""
        return self.header["concepts"]

    @cached_property
    def scores(self) -> dict[str, np.ndarray]:
        """Name to float32 `[N]`."""
        return {each["name"]: self.columns[each["name"]] for each in self.header["scores"]} | dict(self.brought)

    def kept_structure_ad(self, score: str) -> np.ndarray | None:
        """float32 `[n_scored + 1]`: structure AD of what remains after the k first in the order of suspicion; None for
        a score that was brought along."""
        return None if score in self.brought else self.columns[f"{score}{KEPT}"]

    @cached_property
    def _graded(self) -> dict[str, dict[str, Any]]:
        """Descriptions of scores that were brought along, each graded once: it takes a thousand draws of the pairs."""
        return {}

    def describe(self, score: str) -> dict[str, Any]:
        """What ``filters.json`` says of a score.

        Raises:
            ValueError: if there is none of that name.
        """
        for each in self.header["scores"]:
            if each["name"] == score:
                return each
        if score in self.brought:
            if score not in self._graded:
                users = describe_users(score.removeprefix(USER))
                self._graded[score] = _described(score, self.brought[score], users, BROUGHT, self.flags)
            return self._graded[score]
        raise ValueError(f"score is {score!r}: expected one of {', '.join(self.scores)}")

    def removal(self, recipe: Filter) -> Removal:
        """What ``recipe`` removes, as :func:`~explorer.defence.recipe.apply_recipe`."""
        return apply_recipe(recipe, self.scores, uids=self.uids, main_concept=self.columns["main_concept"])
