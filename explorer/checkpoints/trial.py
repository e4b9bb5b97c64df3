"""Whether a checkpoint draws: one prompt, one step, the smallest picture, through its own pipeline, with its maps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from explorer.attention.prompts import denoiser_of
from explorer.attention.record import record
from explorer.checkpoints.joint_pipelines import denoiser_calls, latent_shape, smallest_multiple
from explorer.checkpoints.placement import free_bytes
from explorer.checkpoints.reasons import cannot_draw
from explorer.checkpoints.weight_files import WeightError

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from explorer.checkpoints.registry import Checkpoint

PROMPT = "a"
GUIDANCE_SCALE = 2.0
"""Above 1, so that the negative prompt is drawn with as well."""
RUNGE_KUTTA_STEPS = 4
ROOM = 1.2
"""Memory a trial takes, to that of the weights."""


def try_drawing(checkpoint: Checkpoint) -> None:
    """Load a checkpoint and draw the smallest picture with every part of it, on the CPU.

    Raises:
        WeightError: saying what failed, or how much memory the trial lacks.
    """
    from explorer.checkpoints.pipelines import load_pipeline

    dtype = _precision(checkpoint)
    try:
        with _without_progress_bars():
            pipeline = load_pipeline(checkpoint, dtype=dtype)
        with cannot_draw(""):
            draw_smallest(pipeline)
    except ValueError as error:
        reason = str(error).removeprefix(f"checkpoint {checkpoint.name} cannot be loaded: ")
        raise WeightError(reason.replace("the model cannot draw this", "it cannot draw")) from error


def draw_smallest(pipeline: DiffusionPipeline) -> None:
    """One step of the smallest picture, as ``generate`` would draw it.

    Raises:
        Exception: whatever goes wrong.
    """
    latent_shape(pipeline, None, None)
    steps = _fewest_steps(pipeline)
    levels = len(denoiser_of(pipeline).config.get("block_out_channels") or (1,))
    side = smallest_multiple(pipeline)
    while side % (pipeline.vae_scale_factor * 2 ** (levels - 1)):
        side += smallest_multiple(pipeline)
    with torch.inference_mode(), record(pipeline, PROMPT) as maps:
        picture = pipeline(
            PROMPT, height=side, width=side, num_inference_steps=steps, guidance_scale=GUIDANCE_SCALE,
            generator=torch.Generator().manual_seed(0), output_type="np",
        ).images  # fmt: skip
    maps.cube.maps()
    if not np.isfinite(picture).all():
        raise ValueError("its pictures have values that are no numbers")


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """A listing of many checkpoints is no place for several bars of each."""
    import diffusers
    import transformers

    shown = [
        library.utils.logging
        for library in (diffusers, transformers)
        if library.utils.logging.is_progress_bar_enabled()
    ]
    for logging in shown:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        for logging in shown:
            logging.enable_progress_bar()


def _fewest_steps(pipeline: DiffusionPipeline) -> int:
    """The fewest steps that the sampler takes."""
    try:
        denoiser_calls(pipeline, 1)
        return 1
    except ValueError:  # PNDM with Runge-Kutta steps starts with four
        denoiser_calls(pipeline, RUNGE_KUTTA_STEPS)
        return RUNGE_KUTTA_STEPS


def _precision(checkpoint: Checkpoint) -> Any:
    """fp32, or bf16 where memory has no room for it.

    Raises:
        WeightError: where there is no room for that either.
    """
    from explorer.checkpoints.kinds.detection import read_contents

    places = [place for place in (checkpoint.place, checkpoint.lender) if place is not None]
    values = sum(header.parameters for place in places for header in read_contents(place, {}).headers.values())
    free = free_bytes("cpu")
    for dtype, size in (("fp32", 4), ("bf16", 2)):
        if ROOM * size * values < free:
            return dtype
    raise WeightError(
        f"whether it draws could not be tried: that takes {ROOM * 2 * values / 1e9:.1f} GB of memory, "
        f"{free / 1e9:.1f} GB are free"
    )
