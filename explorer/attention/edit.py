"""Attention changed while a picture is drawn: words re-weighted or suppressed (Hertz et al. 2022, section 3.3)::

    with edit(pipeline, "a photo of a dog", {"dog": 0}):
        image = pipeline("a photo of a dog").images[0]

A layer's output is its probabilities times the values of what it reads. An edit adds ``(edited - own probabilities) @
values`` of the text to it, before the output projection: whatever else the layer does stays, and an edit that changes
nothing adds zero, which leaves every bit as it was. Nothing is renormalised unless the edit does so itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from explorer.attention.hooks import AttentionHooks, FindCalls, TextAttention
from explorer.attention.joint import JointAttention, is_joint_transformer
from explorer.attention.record import find_target
from explorer.attention.storage import AttentionCapture
from explorer.attention.unet import CrossAttention
from explorer.attention.words import PromptWords

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

Change = Callable[[str, int, torch.Tensor], torch.Tensor]
"""``(layer, step, probabilities) -> probabilities``; see :func:`edit`."""


@contextmanager
def edit(
    model: DiffusionPipeline | torch.nn.Module,
    words: str | PromptWords,
    change: Change | Mapping[str, float],
    *,
    guidance: bool | None = None,
) -> Iterator[None]:
    """Change the attention that the image pays to the text in every denoiser call inside the ``with`` block.

    What :func:`~explorer.attention.record.record` records of it, around or inside this block, is what the change has
    made. Under guidance the prompt's half alone is changed, not the negative prompt's. The text encoder has told later
    tokens of earlier words: a word without attention may still be seen through them.

    Args:
        model: a stock pipeline of SD1, SD2, SDXL, SD3 or Flux, or its denoiser alone.
        words: as in ``record``.
        change: a factor for each of some words (0 suppresses it, see :func:`reweight`), or a function of a layer's
            name, the step (from 0 in every generation; calls of the denoiser, of which Heun's method makes two a step)
            and its probabilities ``[images, heads, positions, L]`` fp32, that gives new ones of this shape. They are a
            copy, which it may change in place. ``L`` are the text positions (``PromptWords.positions``); rows sum to
            one in a U-Net, and in joint attention to what the softmax over text and image gives the text.
        guidance: as in ``record``.

    Raises:
        ValueError: as ``record``; if the attention is being edited already (compose the functions instead), or the
            change gives something of another shape.
        RuntimeError: if a layer's projections are bypassed.
    """
    target = find_target(model, words, guidance)
    if _of_kind(target.denoiser, AttentionEdit):
        raise ValueError("the attention is being edited already: expected one edit, whose change may call others")
    change = change if callable(change) else reweight(target.words, change)
    attention = (JointAttention if is_joint_transformer(target.denoiser) else CrossAttention)(target.denoiser)
    editing = AttentionEdit(target.denoiser, attention, target.find, change)
    with editing.attached(), target.drawing(editing.start):
        yield


def reweight(words: PromptWords, factors: Mapping[str, float]) -> Change:
    """A change that multiplies the probabilities of some words, in every layer and step; nothing is renormalised.

    Args:
        words: of the prompt.
        factors: by word as in the prompt, letter case ignored, or several in a row (``red hair``); 0 suppresses it.

    Raises:
        ValueError: naming a word that the prompt does not hold, or a factor that is no finite number.
    """
    scale = torch.ones(len(words.matrix))
    for word, factor in factors.items():
        indices = words.indices_of(word)
        if not indices:
            raise ValueError(f"the prompt {words.prompt!r} does not hold {word!r}: expected words of {words.words}")
        if not math.isfinite(factor):
            raise ValueError(f"the factor of {word!r} is {factor}: expected a finite number")
        for index in indices:
            scale[list(words.positions[index])] = float(factor)
    return lambda layer, step, probabilities: probabilities * scale.to(probabilities.device)


class AttentionEdit(AttentionHooks):
    """Changes the output of every layer that reads the text; made by :func:`edit`."""

    def __init__(self, denoiser: torch.nn.Module, attention: TextAttention, find: FindCalls, change: Change):
        super().__init__(denoiser, attention, find)
        self._change = change

    def start(self) -> None:
        """Count the steps from 0 again."""
        self.calls = 0

    def _register(self, handles: list[Any]) -> None:
        super()._register(handles)
        for name, layer in self._layers.items():
            handles.append(self._attention.text_value(layer).register_forward_hook(self._keep(name, "text value")))
            output = self._attention.output(layer)
            if output is None:  # before a capture's own hook on the layer, which reads what was made here
                handles.append(layer.register_forward_hook(self._change_output(name, layer), prepend=True))
            else:
                handles.append(output.register_forward_pre_hook(self._change_input(name, layer)))

    def _change_input(self, name: str, layer: Any) -> Any:
        return lambda module, inputs: (self._edited(name, layer, inputs[0], slice(None)), *inputs[1:])

    def _change_output(self, name: str, layer: Any) -> Any:
        return lambda module, inputs, output: self._edited(name, layer, output, slice(self._tokens, None))

    def _edited(self, name: str, layer: Any, output: torch.Tensor, image: slice) -> torch.Tensor:
        """A layer's attended values ``[rows, positions, heads * d]``, changed in the rows followed, at the image's."""
        if not self._following:
            return output
        kept = self._take(name, "text value")
        own = self._attention.probabilities(layer, kept, self._tokens)
        new = self._change(name, self.calls, own.clone())
        if not isinstance(new, torch.Tensor) or new.shape != own.shape:
            given = tuple(new.shape) if isinstance(new, torch.Tensor) else type(new).__name__
            raise ValueError(f"the edit of {name} gave {given}: expected probabilities {tuple(own.shape)}")
        for capture in _of_kind(self._denoiser, AttentionCapture):
            capture.take_edited(name, new)
        value = kept["text value"][:, : self._tokens].float().unflatten(2, (layer.heads, -1)).transpose(1, 2)
        added = ((new - own) @ value).transpose(1, 2).flatten(2)
        # With the strides of a part of text and image, which a clone would close up: the projection behind would take
        # another path then, and round otherwise.
        changed = torch.empty_strided(output.shape, output.stride(), dtype=output.dtype, device=output.device)
        changed.copy_(output)
        changed[self._rows, image] = (output[self._rows, image].float() + added).to(output.dtype)
        return changed


def _of_kind(denoiser: torch.nn.Module, kind: type[AttentionHooks]) -> list[Any]:
    """Those of a kind that are attached to a denoiser: their hooks are among its own."""
    owners = (getattr(hook, "__self__", None) for hook in denoiser._forward_hooks.values())
    return [owner for owner in owners if isinstance(owner, kind)]
