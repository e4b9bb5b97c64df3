"""The training loops most people start from, diffusers' examples, as the benchmark's opponents.

Rewritten step by step with their defaults (Apache-2.0, Hugging Face). ``train_text_to_image.py``: every step reads,
resizes, crops and normalises its pictures, encodes them with the autoencoder and their captions with the text encoder,
and takes an AdamW step. ``train_text_to_image_sdxl.py`` encodes pictures and captions once beforehand, as ours does.
Encoders run in the mixed precision's type, the U-Net under autocast; the attention is the library's default.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch.nn import functional

from explorer.pairs.pair_set import PairSet
from explorer.training.trainer import start_accelerator

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

WEIGHT_TYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PASSES = 1000
"""Passes over the data that a loader with worker processes makes in one go: a small set would have them wait at the end
of every pass, which a set of the usual size has seldom."""


class PlainLoop:
    """``run(steps)`` takes that many steps and goes on where the last call ended."""

    def __init__(
        self,
        unet: Any,
        scheduler: Any,
        dataset: torch.utils.data.Dataset,
        *,
        batch_size: int,
        learning_rate: float,
        precision: str = "no",
        seed: int = 0,
        workers: int = 0,
    ) -> None:
        """The U-Net is trained in place, on the CPU or the GPU where it is.

        Args:
            dataset: samples as dictionaries of tensors, which :meth:`read` understands.
            workers: processes that make batches; 0, the examples' default, makes them between the steps.
        """
        from accelerate.utils import set_seed
        from diffusers import DDPMScheduler

        set_seed(seed)
        self.accelerator = start_accelerator(precision, unet.device.type)
        self.weight_type = WEIGHT_TYPES[precision]
        self.scheduler = DDPMScheduler.from_config(scheduler.config)
        unet = unet.train()
        optimizer = torch.optim.AdamW(
            unet.parameters(), lr=learning_rate, betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
        if workers:
            dataset = torch.utils.data.ConcatDataset([dataset] * PASSES)
        loader = torch.utils.data.DataLoader(dataset, shuffle=True, batch_size=batch_size, num_workers=workers)
        self.unet, self.optimizer, self.loader, self.schedule = self.accelerator.prepare(
            unet, optimizer, loader, schedule
        )
        self.batches = self._endless()

    def read(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any] | None]:
        """Scaled latents ``[n, 4, h, w]``, text ``[n, L, d]`` and SDXL's further conditions of a batch."""
        raise NotImplementedError

    def run(self, steps: int) -> float:
        """Train for ``steps`` steps; returns the last loss."""
        loss = float("nan")
        for _ in range(steps):
            loss = self._step(next(self.batches))
        return loss

    def close(self) -> None:
        """End the loader's worker processes."""
        self.batches.close()

    def _endless(self) -> Iterator[dict[str, torch.Tensor]]:
        while True:
            yield from self.loader

    def _step(self, batch: dict[str, torch.Tensor]) -> float:
        latents, hidden, added = self.read(batch)
        noise = torch.randn_like(latents)
        timesteps = torch.randint(
            0, self.scheduler.config.num_train_timesteps, (latents.shape[0],), device=latents.device
        ).long()
        noisy = self.scheduler.add_noise(latents, noise, timesteps)
        if self.scheduler.config.prediction_type == "epsilon":
            target = noise
        else:
            target = self.scheduler.get_velocity(latents, noise, timesteps)
        predicted = self.unet(noisy, timesteps, hidden, added_cond_kwargs=added, return_dict=False)[0]
        loss = functional.mse_loss(predicted.float(), target.float(), reduction="mean")
        reported = self.accelerator.gather(loss.repeat(len(latents))).mean().item()
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.unet.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        return reported


class PlainTraining(PlainLoop):
    """``train_text_to_image.py``: encoders inside the step."""

    def __init__(self, pipeline: DiffusionPipeline, pairs: PairSet, *, resolution: int, **settings: Any) -> None:
        """The pipeline's networks are used as they are and its U-Net is trained in place; ``settings`` as
        :class:`PlainLoop`."""
        dataset = _TransformedPairs(pairs, pipeline.tokenizer, resolution)
        super().__init__(pipeline.unet, pipeline.scheduler, dataset, **settings)
        device = self.accelerator.device
        self.vae = pipeline.vae.requires_grad_(False).to(device, self.weight_type)
        self.text_encoder = pipeline.text_encoder.requires_grad_(False).to(device, self.weight_type)

    def read(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, None]:
        """Latents and text, encoded now."""
        latents = self.vae.encode(batch["pixel_values"].to(self.weight_type)).latent_dist.sample()
        hidden = self.text_encoder(batch["input_ids"], return_dict=False)[0]
        return latents * self.vae.config.scaling_factor, hidden, None


class PlainXLTraining(PlainLoop):
    """``train_text_to_image_sdxl.py``: pictures and captions were encoded beforehand."""

    def __init__(self, unet: Any, scheduler: Any, samples: list[dict[str, torch.Tensor]], **settings: Any) -> None:
        """``samples`` have ``latents``, ``text``, ``pooled`` and ``time_ids``; ``settings`` as :class:`PlainLoop`."""
        super().__init__(unet, scheduler, samples, **settings)

    def read(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """What was encoded, with the pooled text and the sizes beside it."""
        return batch["latents"], batch["text"], {"text_embeds": batch["pooled"], "time_ids": batch["time_ids"]}


class _TransformedPairs(torch.utils.data.Dataset):
    """The example's dataset: transforms and tokenizer at every access."""

    def __init__(self, pairs: PairSet, tokenizer: Any, resolution: int) -> None:
        from torchvision import transforms

        self.pairs = pairs
        self.captions = pairs.table["caption"].tolist()
        self.tokenizer = tokenizer
        self.transform = transforms.Compose(
            [
                transforms.Resize(resolution, interpolation=transforms.InterpolationMode.LANCZOS),
                transforms.CenterCrop(resolution),
                transforms.ToTensor(),
                transforms.Normalize([0.5], [0.5]),
            ]
        )

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        ids = self.tokenizer(
            self.captions[row], max_length=self.tokenizer.model_max_length, padding="max_length", truncation=True,
            return_tensors="pt",
        ).input_ids[0]  # fmt: skip
        return {"pixel_values": self.transform(Image.fromarray(self.pairs.read_images([row])[0])), "input_ids": ids}
