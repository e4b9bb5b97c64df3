"""Train the small CLIP on benign scenes, calibrate its feature range, and measure zero-shot accuracy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from explorer.alignment.difficulty import calibrate_feature_range
from explorer.core.progress import OnProgress, unheard
from explorer.core.provenance import hash_json
from explorer.embeddings.universal_extractor import (
    SMALL_SIDE,
    TOKENIZER_FOLDER,
    UniversalExtractor,
    build_clip,
    save_extractor,
    small_clip_config,
    small_clip_input,
)
from explorer.iconworld.grammar import lexicon, photo_of
from explorer.iconworld.tokenizer import build_tokenizer, encode, save_tokenizer
from explorer.iconworld.world import ScenePair, World, draw_pairs, draw_single, paint_all
from explorer.training.config import TrainingConfig
from explorer.training.trainer import train

MERGES = 480
TRAIN_STREAM, TEST_STREAM, CALIBRATION_STREAM = 201, 202, 203
HELD_OUT_SCENES = 10
"""Of every concept and style."""


class ContrastiveLoss(torch.nn.Module):
    """CLIP's symmetric loss with every pair of equal content as a positive.

    In a closed world a batch holds many captions of one picture's content; treating them as negatives would teach
    the extractor that equal things differ. Targets are uniform over the pairs that show the same concepts.
    """

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """``images`` ``[n, 3, 64, 64]``, ``tokens`` ``[n, L]``, ``content`` int64 ``[n]`` (equal: a positive)."""
        # The fused attention of PyTorch's CPU backend has a very slow bf16 backward pass; that of a GPU has not.
        on_cpu = batch["images"].device.type == "cpu"
        with sdpa_kernel(SDPBackend.MATH) if on_cpu else nullcontext():
            images = functional.normalize(self.clip.encode_image(batch["images"]).float(), dim=-1)
            texts = functional.normalize(self.clip.encode_text(batch["tokens"]).float(), dim=-1)
        logits = self.clip.logit_scale.exp().clamp(max=100) * images @ texts.T
        same = (batch["content"][:, None] == batch["content"][None, :]).float()
        targets = same / same.sum(dim=1, keepdim=True)
        return (functional.cross_entropy(logits, targets) + functional.cross_entropy(logits.T, targets)) / 2


class ExtractorTask:
    """Benign pairs, with light augmentation drawn per step.

    Args:
        images: uint8 ``[N, H, W, 3]``.
        captions: N of them.
        shown: what each picture shows: pairs that show the same are positives of one another.
    """

    def __init__(
        self, network: ContrastiveLoss, tokenizer: Any, images: np.ndarray, captions: list[str], shown: list[Hashable]
    ) -> None:
        self.network, self.images = network, torch.from_numpy(images)
        self.tokens = encode(tokenizer, captions)
        contents: dict[Hashable, int] = {}
        self.content = torch.tensor([contents.setdefault(key, len(contents)) for key in shown])

    @staticmethod
    def of_scenes(world: World, network: ContrastiveLoss, tokenizer: Any, pairs: list[ScenePair]) -> ExtractorTask:
        """Pairs of ``world``, painted once."""
        return ExtractorTask(
            network, tokenizer, paint_all(world, [pair.scene for pair in pairs]), [pair.caption for pair in pairs],
            [tuple(item.concept for item in pair.scene.objects) for pair in pairs],
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Pictures with blur and noise of random strength: generated pictures are not as clean as painted ones."""
        images = small_clip_input(self.images[indices])
        blurred = functional.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
        blend = torch.rand(len(images), 1, 1, 1, generator=generator)
        strength = 0.15 * torch.rand(len(images), 1, 1, 1, generator=generator)
        noise = torch.randn(images.shape, generator=generator)
        images = torch.lerp(images, blurred, blend) + strength * noise
        return {"images": images, "tokens": self.tokens[indices], "content": self.content[indices]}


def make_tokenizer(world: World, context_length: int) -> Any:
    """The world's tokenizer: merges learned from the atlas's whole lexicon, counted by caption frequency."""
    full = World(concept_count=len(world.atlas.concepts))
    counts = Counter(dict.fromkeys(lexicon(()), 200))
    for rank, concept in enumerate(full.concepts):
        counts[concept] += 1 + round(4000 / (rank + 40))
    return build_tokenizer(dict(counts), merges=MERGES, context_length=context_length)


def train_extractor(
    world: World,
    config: TrainingConfig,
    run_folder: Path,
    output: Path,
    *,
    pairs: int = 60_000,
    context_length: int = 28,
    calibration_pairs: int = 4000,
    device: str = "cpu",
    on_progress: OnProgress = unheard,
) -> dict[str, Any]:
    """Train, calibrate, measure and save the extractor; returns its metrics."""
    tokenizer = make_tokenizer(world, context_length)
    save_tokenizer(tokenizer, lexicon(world.concepts), output / TOKENIZER_FOLDER)
    clip_config = small_clip_config(len(tokenizer), context_length)
    drawn = draw_pairs(world, pairs, np.random.default_rng([config.seed, TRAIN_STREAM]))
    task = ExtractorTask.of_scenes(world, ContrastiveLoss(build_clip(clip_config, config.seed)), tokenizer, drawn)
    identity = {"world": world.config(), "clip": clip_config, "pairs": pairs}
    clip = train(task, config, run_folder, identity=identity, device=device, on_progress=on_progress).clip
    # What is shipped is fp16, so that is what is measured and calibrated.
    clip = clip.half().float().to(device)
    feature_range = calibrate(clip, tokenizer, world, config.seed, calibration_pairs)
    metrics = zero_shot_accuracy(clip, tokenizer, world, config.seed)
    save_extractor(
        output, clip.to("cpu"), clip_config, name="iconworld-clip", feature_range=feature_range,
        config={"world": world.config(), "pairs": pairs, "training": config.__dict__ | {"betas": list(config.betas)}},
        seed=config.seed, data_hash=hash_json(identity), metrics=metrics,
    )  # fmt: skip
    return {**metrics, "feature_range": list(feature_range)}


def extractor_of(clip: Any, tokenizer: Any) -> UniversalExtractor:
    """An extractor around a network in memory, which has no feature range."""
    return UniversalExtractor(
        name="in-memory", clip=clip.eval(), tokenize=lambda captions: encode(tokenizer, captions),
        preprocess=small_clip_input, feature_range=None, identity="in-memory",
        picture_size=SMALL_SIDE, device=str(clip.logit_scale.device),
    )  # fmt: skip


def calibrate(clip: Any, tokenizer: Any, world: World, seed: int, pairs: int) -> tuple[float, float]:
    """The 1 % and 99 % quantiles of the cosine of as many fresh benign ``pairs``."""
    drawn = draw_pairs(world, pairs, np.random.default_rng([seed, CALIBRATION_STREAM]))
    extractor = extractor_of(clip, tokenizer)
    images = extractor.encode_images(paint_all(world, [pair.scene for pair in drawn]))
    texts = extractor.encode_texts([pair.caption for pair in drawn])
    low, high = calibrate_feature_range((images * texts).sum(dim=1))
    return round(low, 4), round(high, 4)


def zero_shot_accuracy(clip: Any, tokenizer: Any, world: World, seed: int) -> dict[str, Any]:
    """Top-1 over all concepts of "a photo of C" on held-out single-object scenes: overall and per style."""
    generator = np.random.default_rng([seed, TEST_STREAM])
    extractor = extractor_of(clip, tokenizer)
    prompts = extractor.encode_texts([photo_of(concept) for concept in world.concepts])
    truth = torch.arange(len(world.concepts)).repeat_interleave(HELD_OUT_SCENES)
    accuracy = {}
    for style in world.styles:
        drawn = [
            draw_single(world, concept, generator, style) for concept in world.concepts for _ in range(HELD_OUT_SCENES)
        ]
        found = (extractor.encode_images(paint_all(world, drawn)) @ prompts.T).argmax(dim=1)
        accuracy[style] = (found == truth).double().mean().item()
    overall = sum(accuracy.values()) / len(accuracy)
    return {"zero_shot_top1": overall, "zero_shot_top1_per_style": accuracy, "concepts": len(world.concepts)}
