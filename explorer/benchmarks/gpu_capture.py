"""Attention capture on a GPU at SD 1.5's size, in half precision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from explorer.benchmarks.capture import (
    BARE,
    OURS,
    CostRatio,
    Denoising,
    benchmark_capture,
    capture_works,
    random_denoising,
)
from explorer.benchmarks.device_figures import free_memory, profiled
from explorer.benchmarks.row_report import RowReport, Save
from explorer.checkpoints.architectures import SD15_UNET

SECONDS = 45.0
GOAL = 1.02
PROFILED_STEPS = 4
RUNS = (("fp16", 9, False), ("fp16", 2, True), ("bf16", 5, False))
"""Precision, rounds, and whether others' captures take part."""
SMOKE_RUNS = (("fp32", 2, False), ("fp32", 1, True), ("bf16", 1, False))


def capture(save: Save, *, smoke: bool, device: str) -> None:
    """20 steps without capture, with ours, and with what others do, in turns."""
    steps = 2 if smoke else 20
    report = RowReport(save, device, SECONDS, goal=GOAL, steps=steps, latents=8 if smoke else 64)
    for number, (precision, rounds, peers) in enumerate(SMOKE_RUNS if smoke else RUNS):
        name = f"{precision}, beside others" if peers else precision
        denoising = random_denoising(
            "sd15", steps=steps, guidance_scale=7.5, device=device, precision=precision,
            unet_config=_small_unet() if smoke else None,
        )  # fmt: skip

        def tell(costs: dict[str, CostRatio], name: str = name) -> None:
            found: dict[str, Any] = {peer: cost.as_dict() for peer, cost in costs.items()}
            report.add(captures={**report.figures.get("captures", {}), name: found})

        report.attempt(
            name, lambda denoising=denoising, rounds=rounds, peers=peers, tell=tell: benchmark_capture(
                denoising, rounds, peers=peers, on_round=tell
            ),
        )  # fmt: skip
        if number == 0:
            report.attempt("profile", lambda denoising=denoising: _profile(denoising, report, device))
        del denoising
        free_memory(device)


def _profile(denoising: Denoising, report: RowReport, device: str) -> None:
    """Where the time goes in a few steps with ours and without."""
    works, profiles = capture_works(replace(denoising, steps=PROFILED_STEPS), peers=False), {}
    for name in (OURS, BARE):
        profiles[name] = profiled(works[name], device)
        report.add(profile=profiles)


def _small_unet() -> dict[str, Any]:
    """SD 1.5's shape, narrow."""
    return SD15_UNET | {
        "sample_size": 8, "block_out_channels": (16, 16, 16, 16), "norm_num_groups": 8, "layers_per_block": 1,
        "cross_attention_dim": 24, "attention_head_dim": 2,
    }  # fmt: skip
