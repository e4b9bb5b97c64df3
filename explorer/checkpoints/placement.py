"""Precision and place of a pipeline: always as asked for, never another because the machine lacks the one named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import psutil

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

Offload = Literal["model", "sequential"]

PRECISIONS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
OFFLOADS = ("model", "sequential")


def resolve_precision(dtype: torch.dtype | str | None) -> torch.dtype:
    """A torch dtype from ``fp32``, ``fp16``, ``bf16`` or a dtype; None is fp32.

    Raises:
        ValueError: naming the value.
    """
    import torch

    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype is not None and dtype not in PRECISIONS:
        raise ValueError(f"precision is {dtype!r}: expected one of {', '.join(PRECISIONS)}")
    return getattr(torch, PRECISIONS[dtype or "fp32"])


def check_place(device: str, offload: Offload | None) -> None:
    """Refuse a device this machine lacks, and offload where there is nothing to offload from.

    Raises:
        ValueError: naming the device or the kind of offload.
    """
    import torch

    if offload is not None and offload not in OFFLOADS:
        raise ValueError(f"offload is {offload!r}: expected one of {', '.join(OFFLOADS)}")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"device {device} cannot be used on this machine: {reason}") from error
    if offload is not None and torch.device(device).type == "cpu":
        raise ValueError(
            "CPU offload keeps a model in memory and moves it to a GPU part by part: the device is cpu, expected a GPU "
            "such as cuda"
        )


def free_bytes(device: str) -> int:
    """Memory that is left on a GPU, or that the operating system can give."""
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def place(pipeline: DiffusionPipeline, device: str, offload: Offload | None) -> DiffusionPipeline:
    """Move a pipeline to a device, or leave it in memory and let accelerate move it there part by part.

    Args:
        pipeline: any diffusers pipeline.
        device: checked by :func:`check_place`.
        offload: ``model`` moves one network at a time, ``sequential`` one layer at a time (least memory, slowest).
    """
    if offload is None:
        return pipeline.to(device)
    if offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.enable_sequential_cpu_offload(device=device)
    return pipeline
