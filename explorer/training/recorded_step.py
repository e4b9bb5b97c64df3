"""A network whose forward and backward pass are recorded once as CUDA graphs and replayed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def recorded(network: torch.nn.Module, batch: dict[str, torch.Tensor]) -> Iterator[None]:
    """Inside, a call of ``network`` in training mode with a batch of this one's shapes replays what was recorded.

    Nothing else may ask for GPU memory while it is recorded: threads that feed the GPU begin later. Every replay writes
    its outputs and gradients over the last ones'.

    Args:
        network: in training mode on a GPU; called with a dictionary of tensors.
        batch: on the GPU; its memory becomes the recording's.
    """
    forward = network.forward
    torch.cuda.make_graphed_callables(network, (batch,), allow_unused_input=True)
    try:
        yield
    finally:
        network.forward = forward  # and the recording's memory with it
