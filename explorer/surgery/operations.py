"""Which grafts a study measures between two models: groups of modules, blocks, and controls that move as far.

A *way* is the straight line from the recipient's weights to the donor's. A group that restores much may do so because
it lies where the damage is, or because moving that far in any part would. So beside a group stand a random
displacement of the same length, the mirrored one, and all weights moved equally far.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from explorer.checkpoints.denoiser import denoiser_config
from explorer.checkpoints.displacement import distance
from explorer.checkpoints.graft import GraftPart, moving_tensors
from explorer.checkpoints.module_groups import (
    ALL,
    ATTENTION,
    CROSS_ATTENTION,
    CROSS_KEYS_VALUES,
    FEED_FORWARD,
    SELF_ATTENTION,
    TEXT_KEYS_VALUES,
    TRANSFORMER_BLOCKS,
    UNET_GROUPS,
    Shapes,
    blocks_of,
    chosen_tensors,
    groups_of,
    parameter_share,
)

if TYPE_CHECKING:
    from explorer.checkpoints.registry import Checkpoint

Role = Literal["none", "group", "rest", "all", "random", "mirrored", "equally far", "part of the way", "block"]
NONE = "none"
PARTS_OF_THE_WAY = (0.25, 0.75)
CURVE = (0.25, 0.5, 0.75)
"""Shares of a group's way at which its curve is measured, between ``none`` and the group."""
RANDOM_SEED = 1


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One graft of a study."""

    name: str
    """Of its folder and its row."""
    role: Role
    """What it is there for."""
    parts: tuple[GraftPart, ...]
    """What moves."""
    beside: str | None = None
    """Of a control: the group that it moves as far as."""
    parameters: float = 0.0
    """Share of the denoiser's parameters that move, 0 to 1."""
    distance: float = 0.0
    """Euclidean norm of what moves, over all weights."""


def operations_between(
    recipient: Checkpoint, donor: Checkpoint, *, strip: bool, curves: bool = False, only: Sequence[str] = ()
) -> list[Operation]:
    """The grafts of one direction, ``none`` first, with how far each moves.

    Args:
        strip: also every block by itself.
        curves: also groups a part of their way, each beside all weights moved as far, and all weights half of theirs.
        only: names of operations; ``none`` and ``all`` are measured anyway. Empty for all of them.

    Raises:
        ValueError: for a name that is none of theirs, or two models that are equal.
    """
    config, shapes = denoiser_config(recipient), recipient.ways.denoiser_shapes(recipient)
    tensors = [each.ways.read_denoiser(each, shapes) for each in (recipient, donor)]
    lengths = {name: distance([(tensors[0][name], tensors[1][name])]) for name in shapes}
    whole = _norm(lengths.values())
    if not whole:
        raise ValueError(f"{recipient.name} and {donor.name} have equal weights: expected two models that differ")
    found = [*_groups(config), *_controls(config, lengths)]
    if strip:
        found += [_operation(f"block-{block}", "block", ALL, block=block) for block in blocks_of(shapes)]
    if curves:
        found += _curves(config, lengths)
    names = [each.name for each in found]
    if unknown := sorted(set(only) - set(names)):
        raise ValueError(f"there is no operation {unknown[0]!r}: expected some of {', '.join(names)}")
    return [_measured(each, shapes, lengths, config) for each in found
            if not only or each.role in (NONE, "all") or each.name in only]  # fmt: skip


def _groups(config: Mapping[str, Any]) -> list[Operation]:
    of_unet = groups_of(config) is UNET_GROUPS
    reading = CROSS_ATTENTION if of_unet else ATTENTION
    alone = (CROSS_KEYS_VALUES, reading, SELF_ATTENTION) if of_unet else (TEXT_KEYS_VALUES, reading)
    found = [Operation(name=NONE, role=NONE, parts=(GraftPart(group=ALL, weight=0.0),))]
    found += [_operation(group, "group", group) for group in (*alone, FEED_FORWARD, TRANSFORMER_BLOCKS)]
    for group in (reading, TRANSFORMER_BLOCKS):
        parts = (GraftPart(group=ALL), GraftPart(group=group, weight=0.0))
        found.append(Operation(name=f"all-but-{group}", role="rest", parts=parts))
    return [*found, _operation(ALL, "all", ALL)]


def _controls(config: Mapping[str, Any], lengths: Mapping[str, float]) -> list[Operation]:
    reading = _groups_beside_all(config)[1]
    found = [
        _operation(f"{reading}-random", "random", reading, direction="random", seed=RANDOM_SEED, beside=reading),
        _operation(f"{reading}-mirrored", "mirrored", reading, weight=-1.0, beside=reading),
    ]
    for group, far in _shares_of_all(config, lengths).items():
        found.append(_operation(f"all-as-far-as-{group}", "equally far", ALL, weight=far, beside=group))
    return found + [_part_of_the_way(ALL, part) for part in PARTS_OF_THE_WAY]


def _curves(config: Mapping[str, Any], lengths: Mapping[str, float]) -> list[Operation]:
    found = [_part_of_the_way(ALL, part) for part in CURVE if part not in PARTS_OF_THE_WAY]
    for group, far in _shares_of_all(config, lengths).items():
        for part in CURVE:
            point = _part_of_the_way(group, part)
            as_far = _operation(
                f"all-as-far-as-{point.name}", "equally far", ALL, weight=part * far, beside=point.name
            )  # fmt: skip
            found += [point, as_far]
    return found


def _groups_beside_all(config: Mapping[str, Any]) -> tuple[str, str, str]:
    """The groups that all weights are moved as far as: keys and values of the text, all that reads it, whole blocks."""
    if groups_of(config) is UNET_GROUPS:
        return CROSS_KEYS_VALUES, CROSS_ATTENTION, TRANSFORMER_BLOCKS
    return TEXT_KEYS_VALUES, ATTENTION, TRANSFORMER_BLOCKS


def _shares_of_all(config: Mapping[str, Any], lengths: Mapping[str, float]) -> dict[str, float]:
    """How far each of those groups moves, as a share of how far all weights do."""
    whole, names = _norm(lengths.values()), list(lengths)
    return {group: _norm(lengths[name] for name in chosen_tensors(names, config, group)) / whole
            for group in _groups_beside_all(config)}  # fmt: skip


def _part_of_the_way(group: str, part: float) -> Operation:
    return _operation(f"{group}-{100 * part:.0f}", "part of the way", group, weight=part)


def _operation(name: str, role: Role, group: str, beside: str | None = None, **part: Any) -> Operation:
    return Operation(name=name, role=role, parts=(GraftPart(group=group, **part),), beside=beside)


def _measured(
    operation: Operation, shapes: Shapes, lengths: Mapping[str, float], config: Mapping[str, Any]
) -> Operation:
    """With how many parameters move, and how far."""
    moves = moving_tensors(operation.parts, shapes, config)
    far = _norm(part.weight * lengths[name] for name, part in moves.items())
    return replace(operation, parameters=parameter_share(shapes, moves), distance=far)


def _norm(lengths: Iterable[float]) -> float:
    return math.sqrt(sum(length**2 for length in lengths))
