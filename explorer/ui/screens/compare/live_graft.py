"""A graft drawn while its sliders move: parts of one loaded model in another, in memory alone."""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING, Any

from explorer.checkpoints.components import with_components
from explorer.checkpoints.graft import GraftPart, grafted, moving_tensors
from explorer.checkpoints.kinds.graft import denoiser_config, denoiser_name, misfit
from explorer.checkpoints.module_groups import groups_of, parameter_share, smallest_group
from explorer.generation.generate import check_request, encode_prompts, generate
from explorer.ui.screens.compare.live_generation import check_asked, request_of
from explorer.ui.screens.compare.payload import png_data_uri

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
        """The picture, and which groups of modules there are. Waits for its turn with the models.

        Args:
            settings: whose models are recipient and donor.
            weights: such as ``cross-attention-keys-values:0.5,feed-forward:1``; empty for none.

        Raises:
            ValueError: in words for whoever asked, if the models cannot be grafted or asked for this.
        """
        check_asked(opened, settings)
        if self._live.context.settings.offload is not None:
            raise ValueError(OFFLOADED)
        recipient, donor = (opened.checkpoint(name) for name in settings.models)
        parts = [_part(text) for text in weights.split(",") if text]
        if (problem := misfit(parts, recipient, donor)) is not None:
            raise ValueError(f"{donor.name} cannot give parts to {recipient.name}: {problem}.")
        return self._live.context.models.do(lambda: self._drawn(opened, settings, recipient, parts))

    def _drawn(
        self, opened: OpenStudy, settings: CompareSettings, recipient: Checkpoint, parts: list[GraftPart]
    ) -> dict[str, Any]:
        started = time.perf_counter()
        own, other = (self._live.pipeline(opened, name, beside=settings.models) for name in settings.models)
        component, config = denoiser_name(recipient), denoiser_config(recipient)
        network, given = getattr(own, component), getattr(other, component).state_dict()
        moves = moving_tensors(parts, given, config)
        pipeline = with_components(own, **{component: grafted(network, given, moves)})
        request = request_of(settings)
        drawn = generate(pipeline, request, capture=False, embeddings=self._embeddings(own, request))
        return {
            "image": png_data_uri(drawn.images[0]),
            "groups": _group_shares(recipient.headers[component].shapes, config),
            "steps": settings.steps,
            "seconds": round(time.perf_counter() - started, 2),
        }

    def _embeddings(self, pipeline: Any, request: Any) -> dict[str, Any]:
        key = (weakref.ref(pipeline), request.prompt, request.negative_prompt, request.guided)
        if self._encoded[0] != key:
            check_request(pipeline, request)
            self._encoded = (key, encode_prompts(pipeline, request))
        return self._encoded[1]


def _group_shares(shapes: dict[str, Any], config: dict[str, Any]) -> list[dict[str, Any]]:
    """The groups that every tensor is in one of, as far as this model has them, with their shares of parameters."""
    members: dict[str, list[str]] = {}
    for tensor in shapes:
        members.setdefault(smallest_group(tensor, config), []).append(tensor)
    return [{"name": name, "share": parameter_share(shapes, members[name])}
            for name in groups_of(config) if name in members]  # fmt: skip


def _part(text: str) -> GraftPart:
    group, _, weight = text.partition(":")
    try:
        return GraftPart(group=group, weight=float(weight))
    except ValueError as error:
        raise ValueError(f"{text!r} is no part: expected a group, a colon and a weight. {error}") from error
