"""What every capture does, whatever the denoiser: room for the steps, and the cube made of it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from explorer.attention.hooks import AttentionHooks, FindCalls, TextAttention
from explorer.attention.maps import AttentionCube, AttentionGroup


class AttentionCapture(AttentionHooks):
    """Collects the text attention of every call; made by ``capture_attention`` and ``record``."""

    def __init__(
        self,
        denoiser: torch.nn.Module,
        attention: TextAttention,
        groups: torch.Tensor,
        find: FindCalls,
        *,
        negative: bool,
        columns: tuple[str, ...],
        dtype: torch.dtype,
        keep_heads: bool,
        gradient: bool,
    ):
        super().__init__(denoiser, attention, find, negative=negative)
        self._groups, self._columns, self._dtype, self._keep_heads = groups, columns, dtype, keep_heads
        self._gradient, self._capacity = gradient, 0
        self._stored: list[torch.Tensor] = []
        """``[steps, ...]`` each; what they are is the subclass's business."""
        self._edited: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def cube(self) -> AttentionCube:
        """Everything captured so far.

        Raises:
            ValueError: if the denoiser was not called.
        """
        if self.calls == 0:
            network = self._attention.network
            raise ValueError(f"nothing was captured: the {network} was not called inside the with block")
        self._complete()
        kept = [stored[: self.calls] for stored in self._stored]
        kept = kept if self.calls == self._capacity else [stored.clone() for stored in kept]
        return AttentionCube(groups=self._grouped(kept), columns=self._columns)

    def take_edited(self, name: str, probabilities: torch.Tensor) -> None:
        """What an edit has made of a layer's probabilities, ``[B, heads, positions, L]``, stored in their place."""
        if self._following and not self._negative:
            with self._graph():
                share = probabilities.sum(-1)
                words = self._of_text(probabilities, share) @ self._groups[:, None]
                self._edited[name] = self._over_heads(words.mT), self._over_heads(share)

    def _of_text(self, probabilities: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        """What is stored of edited probabilities, whose rows sum to ``share``."""
        return probabilities

    def _complete(self) -> None:
        """Called before what is stored is read: nothing may wait any longer."""

    def _grouped(self, kept: list[torch.Tensor]) -> tuple[AttentionGroup, ...]:
        raise NotImplementedError

    def _begin(self, sample: torch.Tensor, inputs: tuple, keywords: dict[str, Any]) -> None:
        if self._tokens != self._groups.shape[1]:
            network = self._attention.network
            raise ValueError(f"the {network} reads {self._tokens} text tokens: groups have {self._groups.shape[1]}")
        self._groups = self._groups.to(device=sample.device, dtype=torch.float32)
        if self.calls == 0:
            self._capacity = self._plan.steps
        elif self.calls == self._capacity:
            self._stored = [torch.cat([stored, torch.empty_like(stored)]) for stored in self._stored]
            self._capacity *= 2

    def _room(self, *shape: int) -> torch.Tensor:
        """Reserve room for every step."""
        return torch.empty((self._capacity, *shape), dtype=self._dtype, device=self._groups.device)

    def _over_heads(self, values: torch.Tensor) -> torch.Tensor:
        return values if self._keep_heads else values.mean(1, keepdim=True)

    def _graph(self) -> AbstractContextManager[None]:
        """Whether what is computed stays in the graph."""
        return torch.set_grad_enabled(self._gradient and torch.is_grad_enabled())

    def _forget_call(self) -> None:
        super()._forget_call()
        self._edited.clear()
