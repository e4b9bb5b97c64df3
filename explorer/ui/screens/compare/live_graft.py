"""A graft drawn while its sliders move: parts of one loaded model in another, in memory alone."""

from __future__ import annotations

import time
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from explorer.attention.prompts import is_joint
from explorer.checkpoints.denoiser import denoiser_config
from explorer.checkpoints.kinds.graft import left_behind
from explorer.checkpoints.module_groups import groups_of, parameter_share, smallest_group
from explorer.generation.columns import describe_generation
from explorer.generation.generate import Generation, check_request, encode_prompts, generate
from explorer.ui.screens.compare.live_generation import check_asked, request_of
from explorer.ui.screens.compare.named_graft import NamedGraft
from explorer.ui.screens.compare.payload import live_payload, png_data_uri
from explorer.ui.shell.concepts import read_concepts

if TYPE_CHECKING:
    from explorer.checkpoints.registry import Checkpoint
    from explorer.ui.screens.compare.live_generation import LiveGeneration
    from explorer.ui.shell.open_study import OpenStudy
    from explorer.ui.shell.permalink import CompareSettings

OFFLOADED = "Surgery needs both models on the device: start the app without --offload."


class LiveGraft:
    """Draws grafts of a study's models; what the prompt became is kept for the next slider."""

    def __init__(self, live: LiveGeneration) -> None:
        self._live = live
        self._encoded: tuple[Any, dict[str, Any]] = (None, {})

    def picture(self, opened: OpenStudy, settings: CompareSettings, weights: str) -> dict[str, Any]:
        """The picture, which groups of modules there are, and what the donor changes beside the denoiser. Waits for its
        turn with the models.

        Args:
            settings: whose models are recipient and donor.
            weights: such as ``cross-attention-keys-values:0.5,feed-forward:1``; empty for none.

        Raises:
            ValueError: in words for whoever asked, if the models cannot be grafted or asked for this.
        """
        graft = self._checked(opened, settings, weights)

        def drawn() -> dict[str, Any]:
            started = time.perf_counter()
            generation = self._draw(opened, settings, graft, capture=False)
            return self._told(graft, settings) | {
                "image": png_data_uri(generation.images[0]), "seconds": round(time.perf_counter() - started, 2),
            }  # fmt: skip

        return self._live.context.models.do(drawn)

    def column(self, opened: OpenStudy, settings: CompareSettings, weights: str) -> dict[str, Any]:
        """A column of the comparison, with maps and numbers, beside what :meth:`picture` tells; ``token`` is the name
        that its sensitivity is asked for by.

        Args:
            settings: as in :meth:`picture`.
            weights: as in :meth:`picture`, of one part at least.

        Raises:
            ValueError: as :meth:`picture`, and if no part moves.
        """
        graft = self._checked(opened, settings, weights)
        if not graft.parts:
            raise ValueError("No part was chosen: a column needs one, or it is the model itself.")

        def drawn() -> dict[str, Any]:
            generation = self._draw(opened, settings, graft, capture=True)
            judge = self._live.judge_or_none(opened, settings.prompt)
            concepts = list(read_concepts(opened).nouns.values())
            column = describe_generation(generation, graft.checkpoint, concepts=concepts, judge=judge)
            payload = live_payload(column, opened)
            token = self._live.results.keep(payload, (opened, replace(column, stacks=())))
            return self._told(graft, settings) | payload | {"token": token}

        return self._live.context.models.do(drawn)

    def _checked(self, opened: OpenStudy, settings: CompareSettings, weights: str) -> NamedGraft:
        check_asked(opened, settings)
        if self._live.context.settings.offload is not None:
            raise ValueError(OFFLOADED)
        recipient, donor = (opened.checkpoint(name) for name in settings.models)
        graft = NamedGraft(recipient=recipient, donor=donor, weights=weights)
        graft.check()
        return graft

    def _draw(self, opened: OpenStudy, settings: CompareSettings, graft: NamedGraft, *, capture: bool) -> Generation:
        own, other = (self._live.pipeline(opened, name, beside=settings.models) for name in settings.models)
        pipeline, request = graft.of(own, other), request_of(opened, settings)
        embeddings = self._embeddings(own, request)
        return generate(
            pipeline, request, model=graft.name, capture=capture, keep_heads=not is_joint(pipeline),
            embeddings=embeddings,
        )  # fmt: skip

    def _embeddings(self, pipeline: Any, request: Any) -> dict[str, Any]:
        key = (weakref.ref(pipeline), request.prompt, request.negative_prompt, request.guided)
        if self._encoded[0] != key:
            check_request(pipeline, request)
            self._encoded = (key, encode_prompts(pipeline, request))
        return self._encoded[1]

    def _told(self, graft: NamedGraft, settings: CompareSettings) -> dict[str, Any]:
        caveat = left_behind(graft.donor)
        return {"groups": _group_shares(graft.recipient), "steps": settings.steps, "caveat": caveat}


def _group_shares(recipient: Checkpoint) -> list[dict[str, Any]]:
    """The groups that every tensor is in one of, as far as this model has them, with their shares of parameters."""
    shapes, config = recipient.ways.denoiser_shapes(recipient), denoiser_config(recipient)
    members: dict[str, list[str]] = {}
    for tensor in shapes:
        members.setdefault(smallest_group(tensor, config), []).append(tensor)
    return [{"name": name, "share": parameter_share(shapes, members[name])}
            for name in groups_of(config) if name in members]  # fmt: skip
