"""Readers of a naming study beside what a machine says of the same pictures: an aesthetics head, the judge's ticks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from explorer.core.intervals import area_interval
from explorer.core.provenance import read_manifest
from explorer.evaluation.aesthetics import AestheticsHead
from explorer.evaluation.judge import ConceptJudge
from explorer.evaluation.naming_study import COLUMNS, KIND, LABEL, MARGIN, ROWS, TILE_SIZE, UNNAMED, read_naming_study
from explorer.generation.sureness import is_sure, sure_bounds


def held_against(study: Path, answers: list[Path], head: AestheticsHead) -> dict[str, dict[str, Any]]:
    """Whether an aesthetics head scores higher what more than half of the readers named than what they called none.

    It scores the tiles as the readers saw them: brought to :data:`TILE_SIZE` pixels a side.

    Returns:
        ``{model: {"named", "none", "auc", "low", "high"}}``, all pictures under ``all``: how many of either there are,
        and the chance that one of the former scores higher; null where there are none of either, or no interval.

    Raises:
        ManifestError, ValueError: as :func:`~explorer.evaluation.naming_study.count_named`.
    """
    key, read = read_naming_study(study, answers)
    scores, found = head.read(_tiles(study, key))["aesthetic_scores"].numpy(), {}
    named, none = _votes(key, read)
    for model, own in _by_model(key).items():
        groups = scores[own & named], scores[own & none]
        found[model] = {"named": len(groups[0]), "none": len(groups[1]), "auc": None, "low": None, "high": None}
        if all(map(len, groups)):
            found[model] |= area_interval(*groups).as_json("auc")
    return found


def ticks(study: Path, answers: list[Path], judge: ConceptJudge) -> dict[str, Any]:
    """How many pictures the judge names right, how many of them it is sure of, and how many of either readers could
    not name.

    Args:
        judge: over the concepts that the study's models were asked for.

    Returns:
        ``bounds`` of a sure verdict, as :func:`~explorer.generation.sureness.sure_bounds` has them of the control's
        pictures, and ``models``: by name ``right``, ``right_none``, ``sure``, ``sure_none``; the second and the last
        are those that more than half of the readers called none. Without bounds nothing is sure: null.

    Raises:
        ManifestError, ValueError: as :func:`~explorer.evaluation.naming_study.count_named`, or if the judge does not
            know a concept.
    """
    key, read = read_naming_study(study, answers)
    cards = list(key.values())
    if unknown := sorted({card["concept"] for card in cards} - set(judge.concepts.names)):
        raise ValueError(f"{unknown[0]!r} is none of the judge's concepts: expected the list that the models were "
                         "asked by")  # fmt: skip
    verdicts = [judge.judge(tile, judge.concepts.prompt(card["concept"]))
                for tile, card in zip(_tiles(study, key), cards, strict=True)]  # fmt: skip
    _, none = _votes(key, read)
    by_model = {model: own for model, own in _by_model(key).items() if model != "all"}
    control = np.flatnonzero(by_model[_control(study)])
    bounds = sure_bounds([verdicts[row] for row in control], [cards[row]["concept"] for row in control])
    right = np.array([verdict["top_concept"] == card["concept"]
                      for verdict, card in zip(verdicts, cards, strict=True)])  # fmt: skip
    sure = None if bounds is None else right & np.array([is_sure(verdict, bounds) for verdict in verdicts])
    return {"bounds": bounds, "models": {model: _counts(own, right, sure, none) for model, own in by_model.items()}}


def _control(study: Path) -> str:
    """The model without poison, of the two that were drawn."""
    models = read_manifest(study, kind=KIND)["config"]["models"]
    return next(name for name, count in models.items() if not count)


def _counts(own: np.ndarray, right: np.ndarray, sure: np.ndarray | None, none: np.ndarray) -> dict[str, int | None]:
    def count(*chosen: np.ndarray | None) -> int | None:
        return None if any(each is None for each in chosen) else int(np.logical_and.reduce(chosen).sum())

    return {"right": count(own, right), "right_none": count(own, right, none), "sure": count(own, sure),
            "sure_none": count(own, sure, none)}  # fmt: skip


def _votes(key: dict[str, Any], read: dict[str, dict[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    """Which pictures more than half of the readers named, and which they called none, bool ``[n]`` each."""

    def most(wanted: Any) -> np.ndarray:
        return np.array([2 * sum(given[number] == wanted(card) for given in read.values()) > len(read)
                         for number, card in key.items()])  # fmt: skip

    return most(lambda card: card["concept"]), most(lambda card: UNNAMED)


def _by_model(key: dict[str, Any]) -> dict[str, np.ndarray]:
    """Which pictures each model drew, bool ``[n]``, and all of them under ``all``."""
    drawn_by = np.array([card["model"] for card in key.values()])
    return {"all": np.ones(len(key), bool)} | {model: drawn_by == model for model in dict.fromkeys(drawn_by.tolist())}


def _tiles(folder: Path, key: dict[str, Any]) -> np.ndarray:
    """The tiles in the key's order, uint8 ``[n, TILE_SIZE, TILE_SIZE, 3]``."""
    tiles = []
    for sheet in range(1, -(-len(key) // (COLUMNS * ROWS)) + 1):
        pixels = np.asarray(Image.open(folder / f"tiles-{sheet}.png").convert("RGB"))
        for place in range(COLUMNS * ROWS):
            left = place % COLUMNS * (TILE_SIZE + MARGIN)
            top = place // COLUMNS * (TILE_SIZE + MARGIN + LABEL) + LABEL
            tiles.append(pixels[top : top + TILE_SIZE, left : left + TILE_SIZE])
    return np.stack([tiles[int(number) - 1] for number in key])  # JSON keeps them in the alphabet's order
