"""The training loop most people start from: diffusers' example ``train_text_to_image.py``, as the benchmark's opponent.

Rewritten step by step with its defaults (Apache-2.0, Hugging Face): every step reads, resizes, crops and normalises its
pictures, encodes them with the autoencoder and their captions with the text encoder, and takes an AdamW step. Encoders
run in the mixed precision's type, the U-Net under autocast; the attention is the library's default.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from explorer.pairs.pair_set import PairSet

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

WEIGHT_TYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class PlainTraining:
    """``run(steps)`` takes that many steps and goes on where the last call ended."""

    def __init__(
        self,
        pipeline: DiffusionPipeline,
        pairs: PairSet,
        *,
        resolution: int,
        batch_size: int,
        learning_rate: float,
        precision: str = "no",
        seed: int = 0,
    ) -> None:
        """The pipeline's networks are used as they are and its U-Net is trained in place, on the CPU or a GPU."""
        from accelerate.utils import set_seed
        from diffusers import DDPMScheduler

        from explorer.training.trainer import start_accelerator

        set_seed(seed)
        self.accelerator = start_accelerator(precision, pipeline.device.type)
        self.weight_type = WEIGHT_TYPES[precision]
        self.scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
        self.vae = pipeline.vae.requires_grad_(False).to(self.accelerator.device, self.weight_type)
        self.text_encoder = pipeline.text_encoder.requires_grad_(False).to(self.accelerator.device, self.weight_type)
        unet = pipeline.unet.train()
        optimizer = torch.optim.AdamW(
            unet.parameters(), lr=learning_rate, betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
        dataset = _TransformedPairs(pairs, pipeline.tokenizer, resolution)
        loader = torch.utils.data.DataLoader(dataset, shuffle=True, batch_size=batch_size, num_workers=0)
        self.unet, self.optimizer, self.loader, self.schedule = self.accelerator.prepare(
            unet, optimizer, loader, schedule
        )
        self.batches = self._endless()

    def run(self, steps: int) -> float:
        """Train for ``steps`` steps; returns the last loss."""
        loss = float("nan")
        for _ in range(steps):
            loss = self._step(next(self.batches))
        return loss

    def _endless(self) -> Iterator[dict[str, torch.Tensor]]:
        while True:
            yield from self.loader

    def _step(self, batch: dict[str, torch.Tensor]) -> float:
        latents = self.vae.encode(batch["pixel_values"].to(self.weight_type)).latent_dist.sample()
        latents = latents * self.vae.config.scaling_factor
        noise = torch.randn_like(latents)
        timesteps = torch.randint(
            0, self.scheduler.config.num_train_timesteps, (latents.shape[0],), device=latents.device
        ).long()
        noisy = self.scheduler.add_noise(latents, noise, timesteps)
        hidden = self.text_encoder(batch["input_ids"], return_dict=False)[0]
        if self.scheduler.config.prediction_type == "epsilon":
            target = noise
        else:
            target = self.scheduler.get_velocity(latents, noise, timesteps)
        predicted = self.unet(noisy, timesteps, hidden, return_dict=False)[0]
        loss = functional.mse_loss(predicted.float(), target.float(), reduction="mean")
        reported = self.accelerator.gather(loss.repeat(len(latents))).mean().item()
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.unet.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        return reported


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
        from PIL import Image

        ids = self.tokenizer(
            self.captions[row], max_length=self.tokenizer.model_max_length, padding="max_length", truncation=True,
            return_tensors="pt",
        ).input_ids[0]  # fmt: skip
        return {"pixel_values": self.transform(Image.fromarray(self.pairs.read_images([row])[0])), "input_ids": ids}
