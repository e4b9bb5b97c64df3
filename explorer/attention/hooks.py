"""Hooks that follow a denoiser's calls, layer by layer: the one mechanism under capturing and editing attention.

The attention processors stay as they are. Hooks on the projections of every layer that reads the text keep references
to what the denoiser computes anyway. A capture reads them and returns nothing, so that pictures are bit-identical with
and without it; an edit returns another output. Guidance is followed here too: which calls and rows read the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch


@dataclass(frozen=True, kw_only=True)
class Calls:
    """How a sampler calls the denoiser."""

    batch: int
    """Images drawn at once."""
    guidance: bool | None
    """Whether the negative prompt is read too: in the first half of ``2 * batch`` rows or, by Flux, in every second
    call. None for Flux's pipeline, where a further call on the same latents is the negative one."""
    steps: int
    """Calls expected of one branch; room is reserved for as many and doubled when there are more."""

    def describe(self) -> str:
        """For messages."""
        return f"{self.batch} images {'with' if self.guidance else 'without'} guidance"


FindCalls = Callable[[int], Calls]
"""How the denoiser is called, from the number of its rows; asked at every call."""


class TextAttention(Protocol):
    """The attention layers of one kind of denoiser that read the text: where their parts are."""

    network: str
    """What messages call the denoiser."""
    sample_name: str
    """Keyword of the latents, which are the first argument."""
    text_position: int
    """Of ``encoder_hidden_states`` among the arguments."""
    layer_keywords: tuple[str, ...]
    """Arguments of a layer that its probabilities depend on."""
    guides_by_calls: bool
    """Whether the negative prompt is read in calls of its own, not in further rows."""
    layers: dict[str, Any]
    """Modules by name."""

    def projections(self, layer: Any) -> dict[str, torch.nn.Module]:
        """The modules whose outputs are a layer's queries and keys."""

    def text_value(self, layer: Any) -> torch.nn.Module:
        """The module whose output holds the values of the text, before any others."""

    def output(self, layer: Any) -> torch.nn.Module | None:
        """The module that is given the attended values of the image; None where the layer gives out text and image."""

    def probabilities(self, layer: Any, kept: Mapping[str, Any], tokens: int) -> torch.Tensor:
        """What each position pays each text token: ``[B, heads, positions, L]`` fp32, from what was kept of a layer."""


class AttentionHooks:
    """Follows the calls of one branch and keeps each layer's projections, as long as it is attached."""

    def __init__(self, denoiser: torch.nn.Module, attention: TextAttention, find: FindCalls, *, negative: bool = False):
        self.calls = 0
        """Calls followed to their end."""
        self._denoiser, self._attention, self._find, self._negative = denoiser, attention, find, negative
        self._layers = attention.layers
        self._plan: Calls | None = None
        self._rows, self._tokens = slice(0), 0
        self._calls_seen = 0
        self._last_sample: torch.Tensor | None = None
        self._following = False
        self._kept: dict[str, dict[str, Any]] = {}

    @contextmanager
    def attached(self) -> Iterator[Self]:
        """The hooks are on inside the block, and off after it, whatever happens."""
        handles: list[Any] = []
        try:
            self._register(handles)
            yield self
        finally:
            for handle in handles:
                handle.remove()
            self._forget_call()
            self._last_sample = None

    def _register(self, handles: list[Any]) -> None:
        handles.append(self._denoiser.register_forward_pre_hook(self._begin_call, with_kwargs=True))
        handles.append(self._denoiser.register_forward_hook(self._end_call))
        for name, layer in self._layers.items():
            if self._attention.layer_keywords:
                handles.append(layer.register_forward_pre_hook(self._begin_layer(name), with_kwargs=True))
            for part, module in self._attention.projections(layer).items():
                handles.append(module.register_forward_hook(self._keep(name, part)))

    def _keep(self, name: str, part: str) -> Any:
        def hook(module: torch.nn.Module, inputs: tuple, output: torch.Tensor) -> None:
            if self._following:
                self._kept.setdefault(name, {})[part] = output[self._rows]

        return hook

    def _begin_layer(self, name: str) -> Any:
        def hook(layer: torch.nn.Module, inputs: tuple, keywords: dict[str, Any]) -> None:
            if self._following:
                if keywords.get("attention_mask") is not None:
                    raise ValueError("an attention mask is given: expected attention over all tokens")
                self._kept[name] = {keyword: keywords.get(keyword) for keyword in self._attention.layer_keywords}

        return hook

    def _forget_call(self) -> None:
        """Drop references to the activations of an unfinished call."""
        self._kept.clear()
        self._following = False

    def _begin_call(self, denoiser: torch.nn.Module, inputs: tuple, keywords: dict[str, Any]) -> None:
        self._forget_call()
        if keywords.get("skip_layers") is not None:  # skip-layer guidance: a further call, which is not followed
            return
        if keywords.get("encoder_attention_mask") is not None:
            raise ValueError("a mask of the text is given: expected attention over all tokens")
        sample = argument(inputs, keywords, 0, self._attention.sample_name)
        rows = self._rows_of(sample)
        if rows is None:
            return
        self._rows = rows
        self._tokens = argument(inputs, keywords, self._attention.text_position, "encoder_hidden_states").shape[1]
        self._begin(sample, inputs, keywords)
        self._following = True

    def _rows_of(self, sample: torch.Tensor) -> slice | None:
        """Which rows of a call are the branch followed; None if the whole call is the other one."""
        plan, by_calls = self._find(sample.shape[0]), self._attention.guides_by_calls
        self._plan = self._plan or plan
        if (plan.batch, plan.guidance) != (self._plan.batch, self._plan.guidance):
            raise ValueError(f"{plan.describe()} are drawn after {self._plan.describe()}: expected the same in a block")
        expected = plan.batch * (2 if plan.guidance and not by_calls else 1)
        if sample.shape[0] != expected:
            raise ValueError(
                f"the {self._attention.network} was called with {sample.shape[0]} rows: expected {expected} "
                f"({plan.describe()})"
            )
        if by_calls and self._is_negative(plan, sample) != self._negative:
            return None
        return slice(plan.batch, expected) if expected > plan.batch and not self._negative else slice(plan.batch)

    def _is_negative(self, plan: Calls, sample: torch.Tensor) -> bool:
        """Whether a call of a denoiser that is guided by calls reads the negative prompt."""
        self._calls_seen += 1
        again, self._last_sample = sample is self._last_sample, sample
        return again if plan.guidance is None else plan.guidance and self._calls_seen % 2 == 0

    def _begin(self, sample: torch.Tensor, inputs: tuple, keywords: dict[str, Any]) -> None:
        """Called before the layers of a call that is followed."""

    def _end_call(self, denoiser: torch.nn.Module, inputs: tuple, output: Any) -> None:
        if self._following:
            self._finish()
            self.calls += 1
            self._forget_call()

    def _finish(self) -> None:
        """Called when the layers of a call have run."""

    def _take(self, name: str, *further: str) -> dict[str, Any]:
        """What was kept of a layer, and is kept no longer.

        Raises:
            RuntimeError: if a projection was not called.
        """
        kept = self._kept.pop(name, {})
        if missing := [
            part for part in (*self._attention.projections(self._layers[name]), *further) if part not in kept
        ]:
            raise RuntimeError(f"attention {name} made no {missing[0]}: its projections are bypassed")
        return kept


def argument(inputs: tuple, keywords: Mapping[str, Any], position: int, name: str) -> Any:
    """An argument of a call, given by position or by name."""
    return inputs[position] if len(inputs) > position else keywords[name]
