"""A graft of two of a study's models that lies nowhere: its name says what it is.

``dirty-060 + benign: feed-forward:1,convolutions:0.5`` is dirty-060 with benign's feed-forward layers and half of the
way to its convolutions. So whatever finds a model by its name finds a graft, too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from explorer.checkpoints.components import with_components
from explorer.checkpoints.denoiser import denoiser_config, denoiser_name
from explorer.checkpoints.graft import GraftPart, grafted, moving_tensors
from explorer.checkpoints.kinds.graft import misfit
from explorer.core.poison_record import NOT_RECORDED

if TYPE_CHECKING:
    from explorer.checkpoints.registry import Checkpoint
    from explorer.ui.shell.open_study import OpenStudy

_NAME = re.compile(r"(?P<recipient>.+) \+ (?P<donor>.+): (?P<weights>\S+)")


@dataclass(frozen=True, kw_only=True)
class NamedGraft:
    """Which models, and which parts move how far."""

    recipient: Checkpoint
    donor: Checkpoint
    weights: str
    """Such as ``cross-attention-keys-values:0.5,feed-forward:1``; empty for none."""

    @property
    def name(self) -> str:
        """That it is found by."""
        return f"{self.title}: {self.weights}"

    @property
    def title(self) -> str:
        """Of whose parts it is."""
        return f"{self.recipient.name} + {self.donor.name}"

    @property
    def parts(self) -> list[GraftPart]:
        """In the order of ``weights``.

        Raises:
            ValueError: if they cannot be read.
        """
        return [_part(text) for text in self.weights.split(",") if text]

    @property
    def checkpoint(self) -> Checkpoint:
        """The recipient under the graft's name; what poison a part brings or takes away is not known."""
        return replace(self.recipient, name=self.name, manifest={}, hash=None, poison=NOT_RECORDED)

    def check(self) -> None:
        """Refuse parts that the donor cannot give to the recipient.

        Raises:
            ValueError: in words for whoever asked.
        """
        if (problem := misfit(self.parts, self.recipient, self.donor)) is not None:
            raise ValueError(f"{self.donor.name} cannot give parts to {self.recipient.name}: {problem}.")

    def of(self, recipient: Any, donor: Any) -> Any:
        """The pipeline of the graft from those of its models; tensors that do not move are the recipient's own."""
        component, config = denoiser_name(self.recipient), denoiser_config(self.recipient)
        network, given = getattr(recipient, component), getattr(donor, component).state_dict()
        moves = moving_tensors(self.parts, given, config)
        return with_components(recipient, **{component: grafted(network, given, moves)})


def graft_named(opened: OpenStudy, name: str) -> NamedGraft | None:
    """The graft of a study's models that is called ``name``; None where that is no graft's name.

    Raises:
        ValueError: in words for whoever asked, if its models or parts cannot be used.
    """
    found = _NAME.fullmatch(name)
    if found is None or name in opened.checkpoint_names():
        return None
    models = {role: opened.checkpoint(found[role]) for role in ("recipient", "donor")}
    graft = NamedGraft(**models, weights=found["weights"])
    graft.check()
    return graft


def model_named(opened: OpenStudy, name: str) -> Checkpoint:
    """A study's checkpoint, or a graft of two of them.

    Raises:
        ValueError: in words for whoever asked, if there is none.
    """
    graft = graft_named(opened, name)
    return opened.checkpoint(name) if graft is None else graft.checkpoint


def _part(text: str) -> GraftPart:
    group, _, weight = text.partition(":")
    try:
        return GraftPart(group=group, weight=float(weight))
    except ValueError as error:
        raise ValueError(f"{text!r} is no part: expected a group, a colon and a weight. {error}") from error
