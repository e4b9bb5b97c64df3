"""A graft: a virtual checkpoint that is one model's denoiser with parts of another's, as a small JSON file says.

``graft.json`` names the recipient, the donor (paths relative to its folder) and the parts that are moved. Whatever no
part names is the recipient's own tensor, the same object in memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from explorer.checkpoints.module_groups import chosen_tensors
from explorer.checkpoints.shared_weights import copy_sharing
from explorer.checkpoints.weight_files import WeightError
from explorer.core.bounded_files import printable

if TYPE_CHECKING:
    import torch

    from explorer.checkpoints.model_folder import ModelFolder

GRAFT_NAME = "graft.json"
Direction = Literal["donor", "random"]
DIRECTIONS = ("donor", "random")
MAX_PARTS = 200
"""Each looks through all names of tensors."""
FIELDS = ("recipient", "donor", "parts")


@dataclass(frozen=True, kw_only=True)
class GraftPart:
    """Which tensors move, and how far; refuses what cannot be read.

    Raises:
        ValueError: naming the value and what was expected.
    """

    group: str
    """A group of modules; see :mod:`explorer.checkpoints.module_groups`."""
    weight: float = 1.0
    """How far: 0 is the recipient, 1 the donor, between them the straight line; -1 is the recipient mirrored away from
    the donor, a control that moves as far."""
    block: str | None = None
    """One block alone, such as ``up_blocks.1``."""
    resolution: int | None = None
    """Blocks of a U-Net that work on latents of this side alone."""
    direction: Direction = "donor"
    """``random`` moves every tensor as far as the donor is away, in a random direction: a control."""
    seed: int = 0
    """Of the random direction."""

    def __post_init__(self) -> None:
        if isinstance(self.weight, bool) or not isinstance(self.weight, int | float) or not -1 <= self.weight <= 1:
            raise ValueError(f"weight is {self.weight!r}: expected a number from -1 (mirrored) over 0 to 1 (the donor)")
        if self.direction not in DIRECTIONS:
            raise ValueError(f"direction is {self.direction!r}: expected {' or '.join(DIRECTIONS)}")
        kinds = {"group": str, "block": str | None, "resolution": int | None, "seed": int}
        for name, kind in kinds.items():
            value, words = getattr(self, name), "a name" if name in ("group", "block") else "a whole number"
            if isinstance(value, bool) or not isinstance(value, kind):
                raise ValueError(f"{name} is {value!r}: expected {words}")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}: expected a whole number from 0")


@dataclass(frozen=True, kw_only=True)
class Graft:
    """What ``graft.json`` says."""

    recipient: Path
    """Where the model lies that is changed."""
    donor: Path
    """Where the model lies whose parts it gets."""
    parts: tuple[GraftPart, ...]
    """In order: where two name one tensor, the later one decides."""


def moving_tensors(parts: Iterable[GraftPart], names: Iterable[str], config: Mapping[str, Any]) -> dict[str, GraftPart]:
    """The part that decides each tensor, by name; tensors that stay where they are are left out.

    Args:
        parts: in order: the last that names a tensor decides.
        names: of all tensors of the recipient's denoiser.
        config: its ``config.json``.

    Raises:
        ValueError: as :func:`~explorer.checkpoints.module_groups.chosen_tensors`.
    """
    names, found = list(names), {}
    for part in parts:
        found |= dict.fromkeys(chosen_tensors(names, config, part.group, part.block, part.resolution), part)
    return {name: part for name, part in found.items() if part.weight != 0}


def is_graft(folder: Path) -> bool:
    """Whether a folder says that it is one, readably or not."""
    return os.path.lexists(folder / GRAFT_NAME)


def read_graft(place: ModelFolder) -> Graft:
    """What ``graft.json`` in a folder says.

    Raises:
        WeightError: naming what is missing, unknown or out of range.
    """
    found = place.json(GRAFT_NAME)
    if unknown := sorted(found.keys() - set(FIELDS)):
        raise WeightError(f"{GRAFT_NAME} has {printable(unknown[0], 100)!r}: expected {', '.join(FIELDS)}")
    paths = {}
    for name in ("recipient", "donor"):
        value = found.get(name)
        if not isinstance(value, str) or not value or "\0" in value:
            raise WeightError(f"{GRAFT_NAME} names {value!r:.100} as {name}: expected the path of a checkpoint")
        paths[name] = place.path / value
    parts = found.get("parts")
    if not isinstance(parts, list) or not 1 <= len(parts) <= MAX_PARTS:
        raise WeightError(f"{GRAFT_NAME} has the parts {parts!r:.100}: expected a list of 1 to {MAX_PARTS}")
    return Graft(**paths, parts=tuple(_part(number, entry) for number, entry in enumerate(parts, start=1)))


def grafted(network: Any, donor: dict[str, torch.Tensor], moves: dict[str, GraftPart]) -> Any:
    """A network that is ``network`` but for the tensors that move and differ; all others are the very same objects.

    Args:
        network: the recipient's denoiser, which stays as it is.
        donor: the donor's tensors, at least those that move.
        moves: as :func:`moving_tensors`.
    """
    import torch

    from explorer.checkpoints.displacement import moved, random_directions

    own = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    differing = {name for name in moves if not _equal(own[name], donor[name])}
    result = copy_sharing(network, differing)
    there = {**dict(result.named_parameters()), **dict(result.named_buffers())}
    with torch.no_grad():
        for part in dict.fromkeys(moves.values()):
            names = [name for name, its in moves.items() if its == part]
            before, given = ({name: tensors[name] for name in names} for tensors in (own, donor))
            drawn = random_directions(before, given, part.seed) if part.direction == "random" else None
            for name in (name for name in names if name in differing):
                if drawn is None and part.weight == 1:  # exactly, not by way of a difference
                    there[name].copy_(given[name])
                    continue
                direction = drawn[name] if drawn else given[name].to(own[name].device).float() - own[name].float()
                there[name].copy_(moved(own[name], direction, part.weight))
    return result


def _equal(own: torch.Tensor, given: torch.Tensor) -> bool:
    """Whether a tensor is another one in its precision."""
    import torch

    return torch.equal(own, given.to(own.device, own.dtype))


def _part(number: int, entry: Any) -> GraftPart:
    known = [each.name for each in fields(GraftPart)]
    if not isinstance(entry, dict) or "group" not in entry or (unknown := sorted(entry.keys() - set(known))):
        told = f"has {printable(unknown[0], 100)!r}" if isinstance(entry, dict) and "group" in entry else "has no group"
        raise WeightError(f"part {number} of {GRAFT_NAME} {told}: expected an object of {', '.join(known)}")
    try:
        return GraftPart(**entry)
    except ValueError as error:
        raise WeightError(f"part {number} of {GRAFT_NAME}: {error}") from error
