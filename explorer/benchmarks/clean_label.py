"""Perturbing pictures in batches, beside the loop that takes one picture at a time: same pictures, steps and result."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from explorer.benchmarks.training import summary
from explorer.core.progress import OnProgress, note, unheard
from explorer.core.provenance import device_name
from explorer.poisoning.perturbation import Perturbation, as_values, latent_distance, latents_of, perturbed

CPU_GOAL, GPU_GOAL = 5, 10
OURS, PLAIN = "ours", "one at a time"


def benchmark_clean_label(
    autoencoder: Any,
    side: int,
    *,
    pictures: int = 32,
    batch_size: int = 32,
    steps: int = 20,
    rounds: int = 3,
    seed: int = 0,
    on_progress: OnProgress = unheard,
) -> dict[str, Any]:
    """Both ways in turns, on random pictures, after one step of each that does not count.

    Args:
        autoencoder: an ``AutoencoderKL`` on the device and in the precision of the work.
        side: pixels a side of the pictures.

    Returns:
        JSON-serialisable: pictures a second of each (median and quartiles), ours / the other within a round, and the
        share of the latent distance that each leaves.

    Raises:
        ValueError: for a number below 1.
    """
    for name, value in {"pictures": pictures, "batch size": batch_size, "rounds": rounds}.items():
        if value < 1:
            raise ValueError(f"{name} is {value}: expected at least 1")
    settings, device = Perturbation(steps=steps), autoencoder.device
    before, towards = (
        torch.randint(0, 256, (pictures, side, side, 3), generator=torch.Generator().manual_seed(seed + each)).byte()
        for each in range(2)
    )
    ways = {OURS: lambda chosen: in_batches(autoencoder, before, towards, chosen, batch_size),
            PLAIN: lambda chosen: one_at_a_time(autoencoder, before, towards, chosen)}  # fmt: skip
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    left = {}
    for way in ways.values():
        way(Perturbation(steps=1))
    for number in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            after = way(settings)
            seconds[name].append(time.perf_counter() - started)
            on_progress(note(f"round {number + 1}: {name}: {pictures / seconds[name][-1]:.3f} pictures/s"))
            left[name] = _share_left(autoencoder, before, after, towards, batch_size)
    return {
        "pictures": pictures, "side": side, "batch_size": batch_size, "steps": steps, "rounds": rounds,
        "device": device_name(str(device)), "precision": str(autoencoder.dtype), "threads": torch.get_num_threads(),
        "goal": CPU_GOAL if device.type == "cpu" else GPU_GOAL, "latent_distance_left": left,
        "pictures_per_second": {name: summary([pictures / taken for taken in each]) for name, each in seconds.items()},
        "speedup": summary([plain / ours for plain, ours in zip(seconds[PLAIN], seconds[OURS], strict=True)]),
    }  # fmt: skip


def in_batches(
    autoencoder: Any, pictures: torch.Tensor, towards: torch.Tensor, settings: Perturbation, batch_size: int
) -> torch.Tensor:
    """As clean-label poison is made: uint8 ``[n, H, W, 3]`` on the CPU."""
    autoencoder.requires_grad_(False)
    encode, parts = _encoder(autoencoder), []
    for some, others in zip(pictures.split(batch_size), towards.split(batch_size), strict=True):
        targets = latents_of(encode, others.to(autoencoder.device))
        parts.append(perturbed(encode, some.to(autoencoder.device), targets, settings).cpu())
    return torch.cat(parts)


def one_at_a_time(
    autoencoder: Any, pictures: torch.Tensor, towards: torch.Tensor, settings: Perturbation
) -> torch.Tensor:
    """As published scripts do it: a loop over pictures around a loop over steps, the target encoded for each picture,
    the network as it was loaded, the budget in fractions of a level."""
    autoencoder.requires_grad_(True)
    encode, done = _encoder(autoencoder), []
    for picture, other in zip(pictures.split(1), towards.split(1), strict=True):
        original = as_values(picture.to(autoencoder.device))
        with torch.no_grad():
            target = encode(as_values(other.to(autoencoder.device)) * 2 - 1)
        change = torch.zeros_like(original)
        for size in settings.step_sizes():
            change.requires_grad_(True)
            distance = (encode((original + change).clamp(0, 1) * 2 - 1) - target).norm()
            (gradient,) = torch.autograd.grad(distance, change)
            change = (change - size * gradient.sign()).clamp(-settings.budget, settings.budget).detach()
        changed = ((original + change).clamp(0, 1) * 255).round().to(torch.uint8)
        done.append(changed.permute(0, 2, 3, 1).cpu())
    autoencoder.requires_grad_(False)
    return torch.cat(done)


def _encoder(autoencoder: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda values: autoencoder.encode(values.to(autoencoder.dtype)).latent_dist.mean.float()


def _share_left(
    autoencoder: Any, before: torch.Tensor, after: torch.Tensor, towards: torch.Tensor, batch_size: int
) -> float:
    encode, shares = _encoder(autoencoder), []
    for each in zip(*(pictures.split(batch_size) for pictures in (before, after, towards)), strict=True):
        old, new, target = (latents_of(encode, pictures.to(autoencoder.device)) for pictures in each)
        shares.append(latent_distance(new, target) / latent_distance(old, target))
    return torch.cat(shares).mean().item()


def markdown(report: dict[str, Any]) -> str:
    """The report as a Markdown table."""
    speedup = report["speedup"]
    lines = [
        f"{report['pictures']} pictures of {report['side']} x {report['side']}, {report['steps']} steps, batch "
        f"{report['batch_size']}, {report['precision']}, {report['device']}, {report['threads']} threads, "
        f"{report['rounds']} interleaved rounds:",
        "",
        "| way | pictures/s (median) | lower quartile | upper quartile | latent distance left |",
        "|---|---|---|---|---|",
    ]
    for name, found in report["pictures_per_second"].items():
        lines.append(f"| {name} | {found['median']:.3f} | {found['lower_quartile']:.3f} | "
                     f"{found['upper_quartile']:.3f} | {report['latent_distance_left'][name]:.3f} |")  # fmt: skip
    return "\n".join([
        *lines, "",
        f"Ours / one at a time, within a round: {speedup['median']:.2f} [{speedup['lower_quartile']:.2f}, "
        f"{speedup['upper_quartile']:.2f}]; goal {report['goal']}.",
    ])  # fmt: skip
