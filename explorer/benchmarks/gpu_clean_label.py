"""Clean-label perturbation on a GPU, in batches beside the loop over single pictures."""

from __future__ import annotations

import torch

from explorer.benchmarks.clean_label import benchmark_clean_label
from explorer.benchmarks.device_figures import free_memory
from explorer.benchmarks.row_report import RowReport, Save
from explorer.benchmarks.training import find_model

SECONDS = 55.0
RUNS = (("iconworld", 64, "float32", 20, 3), ("sd15", 256, "float16", 8, 2))
"""Whose autoencoder, with random weights; pixels a side, precision, steps and rounds."""
SMOKE_RUNS = (("iconworld", 16, "float32", 2, 1),)
PICTURES, SMOKE_PICTURES = 32, 2


def clean_label(save: Save, *, smoke: bool, device: str) -> None:
    """Pictures a second of both ways, all pictures in one batch."""
    from diffusers import AutoencoderKL

    report = RowReport(save, device, SECONDS)
    pictures = SMOKE_PICTURES if smoke else PICTURES
    for name, side, precision, steps, rounds in SMOKE_RUNS if smoke else RUNS:
        autoencoder = AutoencoderKL(**find_model(name).autoencoder).to(device, getattr(torch, precision)).eval()
        found = report.attempt(
            name, lambda vae=autoencoder, side=side, steps=steps, rounds=rounds: benchmark_clean_label(
                vae, side, pictures=pictures, batch_size=pictures, steps=steps, rounds=rounds
            ),
        )  # fmt: skip
        if found is not None:
            report.add(perturbations={**report.figures.get("perturbations", {}), name: found})
        del autoencoder
        free_memory(device)
