"""What a live comparison costs, all of the app's own work included, against the models' bare U-Net calls; and how long
a graft takes to be drawn again."""

from __future__ import annotations

import time
from collections.abc import Callable

from explorer.benchmarks.capture import CostRatio, bare_unet_calls, interleave
from explorer.ui.screens.compare.live_generation import LiveGeneration, request_of
from explorer.ui.screens.compare.live_graft import LiveGraft
from explorer.ui.shell.open_study import OpenStudy
from explorer.ui.shell.permalink import CompareSettings

READING = "cross-attention-keys-values"


def live_comparison_cost(live: LiveGeneration, opened: OpenStudy, settings: CompareSettings, rounds: int) -> CostRatio:
    """From the click to the last column's payload, models loaded before.

    Measured: text encoding, denoising with capture, decoding, quantised maps, the extractor's judgement, PNG and maps
    for the browser, and the updates of the page. Bare: as many U-Net calls on the same latents and embeddings,
    guidance as one batch, and nothing else, on the same thread.

    Raises:
        ValueError: if the settings or a checkpoint cannot be used.
    """
    request = request_of(opened, settings)
    do = live.context.models.do

    def prepare() -> list[Callable[[], None]]:
        return [
            bare_unet_calls(live.pipeline(opened, name, beside=settings.models), request) for name in settings.models
        ]

    def compare() -> None:
        list(live.run(opened, settings, "benchmark", live.clicks.begin("benchmark")))

    calls = do(prepare)
    return interleave(compare, lambda: do(lambda: [call() for call in calls]), rounds)


def redraw_seconds(live: LiveGeneration, opened: OpenStudy, settings: CompareSettings, moves: int) -> list[float]:
    """From a move of a graft's slider to its picture for the browser, models loaded and the prompt read before.

    Each move puts more of the second model's cross-attention into the first, so that no two pictures are of one model.

    Args:
        settings: whose models are recipient and donor.

    Raises:
        ValueError: if the settings or a checkpoint cannot be used.
    """
    graft = LiveGraft(live)
    graft.picture(opened, settings, "")
    seconds = []
    for move in range(1, moves + 1):
        started = time.perf_counter()
        graft.picture(opened, settings, f"{READING}:{move / moves}")
        seconds.append(time.perf_counter() - started)
    return seconds
