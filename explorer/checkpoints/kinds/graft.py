"""A graft: parts of one model's denoiser put into another's, defined by a folder's ``graft.json``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.checkpoints.components import check_network, with_components
from explorer.checkpoints.denoiser import denoiser_config, denoiser_name
from explorer.checkpoints.graft import (
    GRAFT_NAME,
    Graft,
    GraftPart,
    grafted,
    is_graft,
    moving_tensors,
    read_graft,
)
from explorer.checkpoints.kinds.base import CheckpointKind, Contents
from explorer.checkpoints.model_folder import ModelFolder
from explorer.checkpoints.weight_files import WeightError, WeightHeader
from explorer.checkpoints.weights_hash import hash_of_model, weights_hash
from explorer.core.provenance import hash_json

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

    from explorer.checkpoints.registry import Checkpoint

SOURCE_KINDS = ("pipeline", "hub", "unet", "single-file", "lora")
SOURCES = "a pipeline folder, or a U-Net, a single file or a LoRA on one"
"""What can be a recipient or a donor, by kind and in words."""
OF_ITS_OWN = ("sample_size",)
"""Entries of a configuration that two models of one architecture may differ in."""
LOG = logging.getLogger(__name__)


class GraftKind(CheckpointKind):
    """Stands on the pipeline of its recipient; has no weights of its own."""

    name, title, own_networks = "graft", "graft", False

    def describe(self, place: ModelFolder, config: Mapping[str, Any]) -> Contents | None:
        if not is_graft(place.path):
            return None
        found = Contents(kind=self.name)
        try:
            graft = read_graft(place)
            recipient, donor = _source(place, graft.recipient, "recipient"), _source(place, graft.donor, "donor")
            if (problem := misfit(graft.parts, recipient, donor)) is not None:
                return replace(found, problem=problem)
            own = WeightHeader(
                files=(), shapes=recipient.ways.denoiser_shapes(recipient),
                size_bytes=(place.path / GRAFT_NAME).stat().st_size,
            )  # fmt: skip
            recorded = [_hash_of_source(each, lambda one: one.hash) for each in (recipient, donor)]
            found = replace(found, hash=None if None in recorded else _joint_hash(graft, *recorded))
            return replace(
                found, family=recipient.family, base=recipient.base or recipient.folder,
                headers={denoiser_name(recipient): own}, caveat=left_behind(donor),
            )  # fmt: skip
        except (WeightError, OSError) as error:
            return replace(found, problem=str(error))

    def check(self, checkpoint: Checkpoint) -> None:
        for source in _read_for(sources(checkpoint)):
            source.ways.check(source)
        super().check(checkpoint)

    def files_read(self, checkpoint: Checkpoint) -> tuple[Path, ...]:
        read = () if checkpoint.problem is not None else _read_for(sources(checkpoint))
        return (checkpoint.folder / GRAFT_NAME, *dict.fromkeys(file for each in read for file in each.files))

    def settings(self, checkpoint: Checkpoint) -> dict[str, Any]:
        both = zip(("recipient", "donor"), sources(checkpoint), strict=True)
        return {role: said for role, source in both if (said := source.ways.settings(source))}

    def weights_hash(self, checkpoint: Checkpoint, of_files: Callable[[Checkpoint], str]) -> str:
        both = (_hash_of_source(each, weights_hash) for each in sources(checkpoint))
        return _joint_hash(read_graft(checkpoint.place), *both)

    def whole_of(self, checkpoint: Checkpoint) -> Checkpoint:
        return sources(checkpoint)[0]

    def assemble(self, checkpoint: Checkpoint, whole: DiffusionPipeline, dtype: torch.dtype) -> DiffusionPipeline:
        from explorer.checkpoints.registry import validate

        recipient, donor = sources(checkpoint)
        lent = [("donor's base", each) for each in _read_for([donor])[1:]]  # the recipient's was read with ``whole``
        for role, source in (("recipient", recipient), ("donor", donor), *lent):
            if (problem := validate(source, recorded=True).problem) is not None:
                raise ValueError(f"checkpoint {checkpoint.name}: its {role} {source.name} is broken: {problem}")
        if (caveat := left_behind(donor)) is not None:
            _warn_once(f"a graft: {caveat}")
        component, shapes = denoiser_name(recipient), recipient.ways.denoiser_shapes(recipient)
        whole = recipient.ways.assemble(recipient, whole, dtype)
        moves = moving_tensors(read_graft(checkpoint.place).parts, shapes, denoiser_config(recipient))
        network = grafted(getattr(whole, component), donor.ways.read_denoiser(donor, moves, dtype), moves)
        check_network(checkpoint.name, component, network)
        return with_components(whole, **{component: network})


def sources(checkpoint: Checkpoint) -> tuple[Checkpoint, Checkpoint]:
    """Recipient and donor of a graft that nothing is known against."""
    graft = read_graft(checkpoint.place)
    return (_source(checkpoint.place, graft.recipient, "recipient"), _source(checkpoint.place, graft.donor, "donor"))


def _source(place: ModelFolder, path: Path, role: str) -> Checkpoint:
    """The recipient or the donor; no weights are read."""
    from explorer.checkpoints.registry import read_checkpoint

    if not path.exists():
        raise WeightError(f"its {role} {path.name} is not in {path.parent}")
    if is_graft(path):  # read, two that name one another would never end
        raise WeightError(f"its {role} {path.name} is a graft itself: expected {SOURCES}")
    return read_checkpoint(place.at(path))


def misfit(parts: Iterable[GraftPart], recipient: Checkpoint, donor: Checkpoint) -> str | None:
    """What keeps the donor's parts from the recipient's denoiser: one that cannot be used, another architecture, other
    noise, no such part; None for nothing."""
    for role, each in (("recipient", recipient), ("donor", donor)):
        if each.problem is not None:
            return f"its {role} {each.name} is broken: {each.problem}"
        if each.kind not in SOURCE_KINDS:
            return f"its {role} {each.name} is a {each.ways.title}: expected {SOURCES}"
    component, told = denoiser_name(recipient), f"its donor {donor.name} is of another architecture than its recipient"
    if denoiser_name(donor) != component:
        return f"{told} {recipient.name}: a {denoiser_name(donor)} and a {component}"
    try:
        if (changed := donor.ways.changes(donor)) and component not in changed:
            return (
                f"its donor {donor.name} changes {' and '.join(changed)} alone: expected one that changes {component}"
            )
        own, other = (each.ways.denoiser_shapes(each) for each in (recipient, donor))
        configs = [denoiser_config(each) for each in (donor, recipient)]
    except WeightError as error:
        return f"{told} {recipient.name}: {error}"
    if differing := sorted(name for name in own.keys() | other.keys() if own.get(name) != other.get(name)):
        name = differing[0]
        sides = [list(shapes[name]) if name in shapes else "nothing" for shapes in (other, own)]
        return f"{told} {recipient.name}: {name} is {sides[0]} and {sides[1]}"
    for key in sorted(configs[0].keys() & configs[1].keys() - set(OF_ITS_OWN)):
        if not key.startswith("_") and configs[0][key] != configs[1][key]:
            return f"{told} {recipient.name}: {key} is {configs[0][key]!r} and {configs[1][key]!r}"
    noise = [each.whole.json("scheduler/scheduler_config.json").get("prediction_type", "epsilon")
             for each in (donor, recipient)]  # fmt: skip
    if noise[0] != noise[1]:
        return f"its donor {donor.name} predicts {noise[0]}, its recipient {recipient.name} {noise[1]}"
    try:
        moving_tensors(parts, own, configs[1])
    except ValueError as error:
        return str(error)
    return None


def left_behind(donor: Checkpoint) -> str | None:
    """What a sound donor changes beside the denoiser, where no graft takes it along, as a sentence; None for nothing
    that it says."""
    others = [name for name in donor.ways.changes(donor) if name != denoiser_name(donor)]
    if not others:
        return None
    return f"its donor {donor.name} also changes {' and '.join(others)}, where a graft has what its recipient has"


def _read_for(models: Iterable[Checkpoint]) -> list[Checkpoint]:
    """All checkpoints whose files the denoisers of some are read from."""
    return [each for model in models for each in model.ways.denoiser_sources(model)]


@cache
def _warn_once(message: str) -> None:
    """A study loads many grafts of the same two models."""
    LOG.warning(message)


def _hash_of_source(source: Checkpoint, hash_of: Callable[[Checkpoint], str | None]) -> str | None:
    """What identifies a recipient or donor, of a LoRA with its base, from what identifies each; None where one is not
    known."""
    own, *base = map(hash_of, source.ways.denoiser_sources(source))
    return None if None in (own, *base) else hash_of_model(source, own, next(iter(base), None))


def _joint_hash(graft: Graft, recipient: str, donor: str) -> str:
    return hash_json({"parts": [asdict(part) for part in graft.parts], "recipient": recipient, "donor": donor})
