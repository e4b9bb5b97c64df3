"""What a live comparison costs, all of the app's own work included, against the models' bare U-Net calls."""

from __future__ import annotations

from collections.abc import Callable

from explorer.benchmarks.capture import CostRatio, bare_unet_calls, interleave
from explorer.ui.screens.compare.live_generation import LiveGeneration, request_of
from explorer.ui.shell.open_study import OpenStudy
from explorer.ui.shell.permalink import CompareSettings


def live_comparison_cost(live: LiveGeneration, opened: OpenStudy, settings: CompareSettings, rounds: int) -> CostRatio:
    """From the click to the last column's payload, models loaded before; the goal is 1.15.

    Measured: text encoding, denoising with capture, decoding, quantised maps, the extractor's judgement, PNG and maps
    for the browser, and the updates of the page. Bare: as many U-Net calls on the same latents and embeddings,
    guidance as one batch, and nothing else, on the same thread.

    Raises:
        ValueError: if the settings or a checkpoint cannot be used.
    """
    request = request_of(settings)
    do = live.context.models.do

    def prepare() -> list[Callable[[], None]]:
        return [
            bare_unet_calls(live.pipeline(opened, name, beside=settings.models), request) for name in settings.models
        ]

    def compare() -> None:
        list(live.run(opened, settings, "benchmark", live.clicks.begin("benchmark")))

    calls = do(prepare)
    return interleave(compare, lambda: do(lambda: [call() for call in calls]), rounds)
