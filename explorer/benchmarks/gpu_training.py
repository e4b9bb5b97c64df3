"""Fine-tuning SD 1.5 and SDXL at full size on a GPU, beside the plain loops of diffusers, with random weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from explorer.benchmarks.device_figures import MemoryWatch, free_memory, profiled, seconds_of
from explorer.benchmarks.plain_training import PlainXLTraining
from explorer.benchmarks.row_report import RowReport, Save
from explorer.benchmarks.training import LEARNING_RATE, SPEED_GOAL, benchmark_training, find_model, summary
from explorer.benchmarks.training_turns import OURS, PLAIN, Timings, Turns, time_turns
from explorer.checkpoints.architectures import SDXL_UNET
from explorer.training.encoded_pairs import random_encoded_pairs, time_ids
from explorer.training.recipes import SDXL, override

if TYPE_CHECKING:
    from explorer.training.encoded_pairs import EncodedPairs

SD15_SECONDS, SDXL_SECONDS = 50.0, 55.0
LAYOUT_REPEATS = 5
SDXL_BATCHES = (4, 2, 1)
"""Samples a step, tried in turn until one fits the memory."""
XL_PAIRS = 64


def training_sd15(save: Save, *, smoke: bool, device: str) -> None:
    """SD 1.5 at 512 pixels in bf16: ours uncompiled against the plain loop with worker processes, in turns."""
    report = RowReport(save, device, SD15_SECONDS, goal=SPEED_GOAL)
    settings = {"batch_size": 2, "steps": 1, "warmup": 1, "rounds": 2, "pairs": 4, "workers": 1} if smoke else {
        "batch_size": 8, "steps": 6, "warmup": 3, "rounds": 3, "pairs": 64, "workers": 8
    }  # fmt: skip
    report.attempt("training", lambda: _sd15(report, smoke, device, graphed=False, profile=True, **settings))
    free_memory(device)
    report.attempt("layouts", lambda: report.add(layouts=_layouts(smoke, device, settings["batch_size"])))


def training_sd15_recorded(save: Save, *, smoke: bool, device: str) -> None:
    """The same with our step recorded and replayed."""
    report = RowReport(save, device, SD15_SECONDS, goal=SPEED_GOAL)
    settings = {"batch_size": 2, "steps": 1, "warmup": 1, "rounds": 1, "pairs": 4, "workers": 0} if smoke else {
        "batch_size": 8, "steps": 6, "warmup": 3, "rounds": 3, "pairs": 64, "workers": 8
    }  # fmt: skip
    # A CPU records nothing: there the loop launches its step anew each time.
    _sd15(report, smoke, device, graphed=not smoke, profile=False, **settings)


def _sd15(report: RowReport, smoke: bool, device: str, **settings: Any) -> None:
    model = _small_sd15() if smoke else find_model("sd15")
    benchmark_training(
        model, device=device, precision="no" if smoke else "bf16", on_round=lambda found: report.add(**found),
        **settings,
    )  # fmt: skip


def _small_sd15() -> Any:
    """SD 1.5's shape with so narrow layers that a CPU takes a step in a moment."""
    model, narrow = find_model("sd15-quarter"), {"block_out_channels": (16, 16, 16, 16), "norm_num_groups": 8}
    return replace(
        model, resolution=64,
        unet=model.unet | narrow | {"cross_attention_dim": 24, "attention_head_dim": 2, "layers_per_block": 1},
        autoencoder=model.autoencoder | narrow | {"layers_per_block": 1},
        text={"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "context": 28},
    )  # fmt: skip


def _layouts(smoke: bool, device: str, batch: int) -> dict[str, float]:
    """Seconds of a forward and backward pass of the U-Net in either memory layout; ours trains in the second."""
    from diffusers import UNet2DConditionModel

    config = (_small_sd15() if smoke else find_model("sd15")).unet
    side = 8 if smoke else 64
    with torch.device(device):
        unet = UNet2DConditionModel(**config).train()
        latents = torch.randn(batch, 4, side, side)
        text = torch.randn(batch, 77, config["cross_attention_dim"])
        timesteps = torch.arange(batch)

    def passes() -> None:
        for _ in range(1 if smoke else LAYOUT_REPEATS):
            with torch.autocast(torch.device(device).type, torch.bfloat16):
                unet(latents, timesteps, text, return_dict=False)[0].float().square().mean().backward()
            unet.zero_grad()

    seconds = {}
    for name, layout in (("contiguous", torch.contiguous_format), ("channels_last", torch.channels_last)):
        unet.to(memory_format=layout)
        passes()
        seconds[name] = seconds_of(passes, device)
    return seconds


def training_sdxl(save: Save, *, smoke: bool, device: str) -> None:
    """SDXL at 1024 pixels in bf16 with gradient checkpointing: ours, then the plain loop, one after the other, because
    the weights and moments of both do not fit a GPU together. Both read what was encoded beforehand."""
    from diffusers import DDIMScheduler, UNet2DConditionModel

    report = RowReport(save, device, SDXL_SECONDS, goal=SPEED_GOAL, resolution=64 if smoke else SDXL.resolution)
    config = _small_sdxl() if smoke else dict(SDXL_UNET)
    report.add(
        gradient_checkpointing=True, precision="no" if smoke else "bf16", in_turns=False,
        encoded_beforehand="by both loops, as diffusers' SDXL example does; not counted",
    )  # fmt: skip
    for batch in SDXL_BATCHES:
        torch.manual_seed(0)
        with torch.device(device):
            unet = UNet2DConditionModel(**config)
        report.add(batch_size=batch, parameters=unet.num_parameters())
        scheduler = DDIMScheduler(prediction_type="epsilon", clip_sample=False, steps_offset=1)
        try:
            _sdxl(unet, scheduler, report, device, smoke)
            return
        except torch.OutOfMemoryError as error:
            report.add(
                too_large=[*report.figures.get("too_large", []), {"batch_size": batch, "error": str(error)[:300]}]
            )
        del unet
        free_memory(device)


def _sdxl(unet: Any, scheduler: Any, report: RowReport, device: str, smoke: bool) -> None:
    """Both loops at one batch size, on the same weights."""
    turns = Turns(steps=1, warmup=1, rounds=1) if smoke else Turns(steps=4, warmup=2, rounds=3, profile=True)
    facts, encoded = report.figures, _random_encoded(unet.config, report.figures["resolution"])
    shared = {"batch_size": facts["batch_size"], "learning_rate": LEARNING_RATE, "precision": facts["precision"]}
    recipe = override(SDXL, resolution=facts["resolution"], accumulation=1, ema_decay=0.0, **shared)
    timings = time_turns(
        unet, scheduler, encoded, recipe, turns, device=device, plain=None,
        on_round=lambda found: _tell(report, turns, found),
    )  # fmt: skip
    free_memory(device)
    unet.to(memory_format=torch.contiguous_format)  # ours changed it; it computes in the other loop's own now
    unet.enable_gradient_checkpointing()
    watch = MemoryWatch(device)
    beside = 0  # nothing but this loop's own lies on the GPU
    plain = PlainXLTraining(unet, scheduler, _samples(encoded), **shared)
    plain.run(turns.warmup)
    for _ in range(turns.rounds):
        timings.seconds[PLAIN].append(seconds_of(lambda: plain.run(turns.steps), device))
        timings.peak_bytes[PLAIN] = watch.peak(beside)
        _tell(report, turns, timings)
    if turns.profile:
        timings.profile[PLAIN] = profiled(lambda: plain.run(turns.stretch), device)
        _tell(report, turns, timings)


def _tell(report: RowReport, turns: Turns, timings: Timings) -> None:
    samples = report.figures["batch_size"] * turns.steps
    rates = {name: [samples / taken for taken in found] for name, found in timings.seconds.items() if found}
    report.add(
        steps=turns.steps,
        samples_per_second={name: summary(found) for name, found in rates.items()},
        peak_bytes=dict(timings.peak_bytes),
        **({"profile": dict(timings.profile)} if timings.profile else {}),
    )
    if PLAIN in rates:
        middle = {name: found["median"] for name, found in report.figures["samples_per_second"].items()}
        report.add(speedup_of_medians=middle[OURS] / middle[PLAIN])


def _small_sdxl() -> dict[str, Any]:
    """SDXL's shape, narrow."""
    return SDXL_UNET | {
        "block_out_channels": (16, 16, 16), "norm_num_groups": 8, "transformer_layers_per_block": (1, 1, 1),
        "layers_per_block": 1, "cross_attention_dim": 24, "attention_head_dim": 2, "sample_size": 8,
        "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 16 + 6 * 8,
    }  # fmt: skip


def _random_encoded(unet_config: Any, resolution: int) -> EncodedPairs:
    return random_encoded_pairs(
        XL_PAIRS, latents=(4, resolution // 8, resolution // 8), text=(77, unet_config["cross_attention_dim"]),
        pooled=unet_config["projection_class_embeddings_input_dim"] - 6 * unet_config["addition_time_embed_dim"],
        time_ids=time_ids((resolution, resolution), resolution),
    )  # fmt: skip


def _samples(encoded: EncodedPairs) -> list[dict[str, Any]]:
    """The same pairs, one a dictionary, for the plain loop."""
    latents = torch.from_numpy(encoded.latents[encoded.picture.numpy()]).float()
    found = encoded.conditioning.rows(encoded.caption)
    return [
        {"latents": latents[row], "text": found["text"][row].float(), "pooled": found["pooled"][row].float(),
         "time_ids": encoded.time_ids}
        for row in range(len(latents))
    ]  # fmt: skip
