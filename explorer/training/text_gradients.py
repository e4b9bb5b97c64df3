"""Gradients of single pairs' denoising loss in the weights that read the text, projected so that they fit in memory.

TracIn (Pruthi et al. 2020) compares the gradients of training samples with that of a test sample. In a linear layer the
gradient of one sample is a sum over tokens of (gradient of the output) x (input); projected from both sides by random
matrices (LoGra, Choe et al. 2024), it is never made whole: a layer keeps ``side`` x ``side`` numbers a sample, whose
inner products are those of the gradients in expectation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from explorer.attention.unet import cross_attention_layers
from explorer.checkpoints.joint_pipelines import require_one_text_encoder
from explorer.core.progress import OnProgress, counted, unheard
from explorer.training.loss import DiffusionLoss
from explorer.training.sample_loss import BATCH_SIZE, DRAWS

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

SIDE = 16


def text_gradients(
    pipeline: DiffusionPipeline, latents: np.ndarray, captions: list[str], *, seed: int = 0, draws: int = DRAWS,
    side: int = SIDE, on_progress: OnProgress = unheard, task: str = "gradients",
) -> np.ndarray:  # fmt: skip
    """Of every pair's loss in the key and value projections of the text, float32 ``[n, 2 * layers * side ** 2]``.

    The loss is that of :func:`~explorer.training.sample_loss.latent_losses`: the same timesteps and noise for every
    pair.

    Args:
        latents: fp32 ``[n, 4, h, w]``, scaled.
        captions: n.
        seed: of noise and projection; gradients of two models compare only with the same.
        side: of each layer's projection.

    Raises:
        ValueError: if the model has no U-Net with one text encoder.
    """
    require_one_text_encoder(pipeline)
    loss = DiffusionLoss(pipeline.unet, pipeline.scheduler)
    layers = [part for layer in cross_attention_layers(pipeline.unet).values() for part in (layer.to_k, layer.to_v)]
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn((draws, *latents.shape[1:]), generator=generator)
    sizes = [(layer.out_features, layer.in_features) for layer in layers]
    sides = [tuple(torch.randn(side, size, generator=generator) / side**0.5 for size in both) for both in sizes]
    timesteps = ((torch.arange(draws) + 0.5) / draws * loss.timesteps).long()
    found = []
    for first in counted(range(0, len(latents), BATCH_SIZE), on_progress, task, "batch"):
        part = torch.from_numpy(latents[first : first + BATCH_SIZE])
        with torch.no_grad():
            text = pipeline.encode_prompt(captions[first : first + BATCH_SIZE], pipeline.device, 1, False)[0]
        total = torch.zeros(len(part), 2 * side**2 * (len(layers) // 2))
        for timestep, one in zip(timesteps, noise, strict=True):
            batch = {"latents": part, "text": text, "noise": one.expand_as(part),
                     "timesteps": timestep.expand(len(part))}  # fmt: skip
            batch = {name: value.to(pipeline.device) for name, value in batch.items()}
            total += _projected(loss, layers, sides, batch) / draws
        found.append(total.numpy())
    return np.concatenate(found)


def _projected(
    loss: DiffusionLoss, layers: list[Any], sides: list[tuple[torch.Tensor, ...]], batch: dict[str, torch.Tensor]
) -> torch.Tensor:
    with torch.enable_grad(), _followed(layers) as seen:
        # The losses of a batch do not touch one another: the gradient of their sum in a row's output is the row's own.
        errors = loss.errors(batch).sum()
        gradients = torch.autograd.grad(errors, [output for _, output in seen])
    parts = []
    for (given, _), gradient, (out, into) in zip(seen, gradients, sides, strict=True):
        left, right = gradient.float().cpu() @ out.T, given.float().cpu() @ into.T
        parts.append(torch.einsum("nls,nlt->nst", left, right).flatten(1))
    return torch.cat(parts, dim=1)


@contextmanager
def _followed(layers: list[Any]) -> Iterator[list[tuple[torch.Tensor, torch.Tensor]]]:
    """Input and output of each layer as it is called; differentiation begins at the outputs."""
    seen: dict[Any, tuple[torch.Tensor, torch.Tensor]] = {}
    ordered: list[tuple[torch.Tensor, torch.Tensor]] = []

    def keep(layer: Any, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        leaf = output.detach().requires_grad_()
        seen[layer] = (given[0].detach(), leaf)
        if len(seen) == len(layers):
            ordered.extend(seen[each] for each in layers)
        return leaf

    handles = [layer.register_forward_hook(keep) for layer in layers]
    try:
        yield ordered
    finally:
        for handle in handles:
            handle.remove()
