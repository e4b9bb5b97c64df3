"""What mislabelled captions alone would do: the share of a concept's training captions whose picture shows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.core.intervals import t_interval
from explorer.meter.estimates import as_json, known, ratio
from explorer.meter.payload_formats import GUIDANCE, NOUN_PART, SENSITIVITY
from explorer.pairs.poison_flags import PoisonFlags

if TYPE_CHECKING:
    import pandas

NOUN_MEASURES = (SENSITIVITY, GUIDANCE, NOUN_PART)
"""Those that label noise makes smaller."""


def true_shares(training: pandas.DataFrame, names: Iterable[str]) -> np.ndarray:
    """Of the training captions that name a concept first, the share whose pair is no poison: fp64 ``[n]``.

    A model that learned such a mixture answers to the concept about so strongly, were that all: the mean of its targets
    moves by this share of what it would move by. NaN for a concept that no caption names first.

    Args:
        training: a row a pair, with ``is_poison`` and ``concepts``, those that the caption names in their order.
        names: of n concepts, each once.

    Raises:
        ValueError: if it is not recorded of every pair whether it is poison.
    """
    flags = PoisonFlags.of(training)
    if not flags.recorded:
        unknown = int(flags.unrecorded.sum())
        raise ValueError(f"it is not recorded of {unknown} training pairs whether they are poison: expected 0")
    number = {name: at for at, name in enumerate(names)}
    first = np.array([number.get(listed[0], -1) if len(listed) else -1 for listed in training["concepts"]], np.int64)
    named = np.bincount(first[first >= 0], minlength=len(number))
    benign = np.bincount(first[(first >= 0) & flags.benign], minlength=len(number))
    return np.divide(benign, named, out=np.full(len(number), np.nan), where=named > 0)


def label_noise(
    measures: Mapping[str, Any],
    reference: Mapping[str, np.ndarray],
    shares: np.ndarray,
    members: Mapping[str, np.ndarray | None],
) -> dict[str, Any]:
    """The shares of true captions by group, and a model's ratios to the reference's amplitudes times them: below 1 is
    more than mislabelled captions explain.

    Args:
        measures: of the model, as ``meter.json`` has them.
        reference: amplitudes of the reference, fp64 ``[n]`` of each measure.
        shares: as :func:`true_shares`.
        members: a group's name to which concepts are in it, bool ``[n]``; None where that is not known.
    """
    groups: dict[str, Any] = {}
    for group, chosen in members.items():
        counted = np.zeros(len(shares), bool) if chosen is None else chosen & ~np.isnan(shares)
        if not counted.any():
            groups[group] = None
            continue
        groups[group] = {"share": as_json(t_interval(shares[counted]))} | {
            measure: ratio(np.array(measures[measure]["per_concept"])[counted],
                           reference[measure][counted] * shares[counted])
            for measure in NOUN_MEASURES if measure in measures
        }  # fmt: skip
    return {"groups": groups, "per_concept": [known(each) for each in shares]}
