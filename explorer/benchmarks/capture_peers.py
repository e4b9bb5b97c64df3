"""Attention capture as DAAM and prompt-to-prompt do it, and none at all: what ours is measured against.

Both peers replace the U-Net's attention by one that materialises its probabilities; ours leaves it alone. They are
written after their published code: castorini/daam (Tang et al. 2023) sums every head's map of every token over the
steps, google/prompt-to-prompt (Hertz et al. 2022) keeps every probability of every attention of up to 32 x 32
positions, self-attention included, and sums over the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

STORED_POSITIONS = 32**2
"""Prompt-to-prompt stores attention of up to as many positions."""

HeatMaps = dict[tuple[str, int], "torch.Tensor"]


@contextmanager
def recorded_probabilities(
    unet: torch.nn.Module, record: Callable[[str, Any, torch.Tensor], None], *, self_attention: bool
) -> Iterator[None]:
    """Let the U-Net's attention compute eagerly, and ``record(name, module, probabilities)`` see every result.

    Args:
        unet: a diffusers U-Net.
        record: given ``[rows * heads, positions, tokens]`` of every call.
        self_attention: whether self-attention is replaced too, or cross-attention alone.
    """
    from diffusers.models.attention_processor import Attention, AttnProcessor

    chosen = {
        name: module
        for name, module in unet.named_modules()
        if isinstance(module, Attention) and (self_attention or module.is_cross_attention)
    }
    before = {name: module.processor for name, module in chosen.items()}
    try:
        for name, module in chosen.items():
            module.set_processor(AttnProcessor())
            module.get_attention_scores = _recording(name, module, record)
        yield
    finally:
        for name, module in chosen.items():
            module.set_processor(before[name])
            vars(module).pop("get_attention_scores", None)


@contextmanager
def daam_capture(unet: torch.nn.Module) -> Iterator[HeatMaps]:
    """Sums over the steps of ``[tokens, h, w]`` for every cross-attention layer and head, guided half alone."""
    heat_maps: HeatMaps = {}

    def record(name: str, module: Any, probabilities: torch.Tensor) -> None:
        import torch

        side = int(probabilities.shape[1] ** 0.5)
        maps = []
        for token in probabilities.permute(2, 0, 1):
            token_maps = token.view(len(token), side, side).float()
            maps.append(token_maps[len(token_maps) // 2 :])
        for head, heat_map in enumerate(torch.stack(maps, 0).permute(1, 0, 2, 3).contiguous()):
            known = heat_maps.get((name, head))
            heat_maps[name, head] = heat_map if known is None else known + heat_map

    with recorded_probabilities(unet, record, self_attention=False):
        yield heat_maps


@contextmanager
def prompt_to_prompt_capture(unet: torch.nn.Module) -> Iterator[dict[str, torch.Tensor]]:
    """Sums over the steps of ``[heads, positions, tokens]`` for every attention, guided half alone."""
    stored: dict[str, Any] = {}

    def record(name: str, module: Any, probabilities: torch.Tensor) -> None:
        if probabilities.shape[1] <= STORED_POSITIONS:
            guided = probabilities[len(probabilities) // 2 :]
            stored[name] = stored[name].add_(guided) if name in stored else guided.clone()

    with recorded_probabilities(unet, record, self_attention=True):
        yield stored


@contextmanager
def our_capture(unet: torch.nn.Module, tokens: int, steps: int) -> Iterator[Any]:
    """The explorer's capture of one guided image: attention to start, two words and the rest, guidance, latents."""
    import torch

    from explorer.attention.capture import capture_attention
    from explorer.generation.recorded_steps import DenoiserCalls

    groups = torch.zeros(tokens, 4)
    groups[torch.arange(tokens), torch.arange(tokens).clamp(max=3)] = 1
    attention = capture_attention(unet, groups, batch=1, guidance=True, steps=steps)
    with attention as capture, DenoiserCalls(unet, guided=True).attached():
        yield capture


def no_capture(unet: torch.nn.Module) -> AbstractContextManager[None]:
    """Nothing: the bare U-Net."""
    return nullcontext()


def _recording(name: str, module: Any, record: Callable[[str, Any, torch.Tensor], None]) -> Callable[..., Any]:
    compute = type(module).get_attention_scores

    def scores(*arguments: Any, **keywords: Any) -> torch.Tensor:
        probabilities = compute(module, *arguments, **keywords)
        record(name, module, probabilities)
        return probabilities

    return scores
