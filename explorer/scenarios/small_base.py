"""A small Stable Diffusion for any benign pairs of small pictures: trained encoders, and a random U-Net.

It is what models are trained from scratch on (``fine-tune --from-scratch``), as Ding et al. (CCS 2024), section 5.4,
train latent diffusion on CIFAR-10. Its CLIP is also an extractor.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from explorer.alignment.difficulty import calibrate_feature_range
from explorer.attention.words import LEXICON_NAME
from explorer.core.new_folder import appearing_whole, check_new_folder
from explorer.core.progress import OnProgress, note, unheard
from explorer.core.provenance import MANIFEST_NAME, read_manifest
from explorer.embeddings.universal_extractor import (
    CONFIG_NAME,
    TOKENIZER_FOLDER,
    UniversalExtractor,
    build_clip,
    load_tokenizer,
    save_extractor,
    small_clip_config,
)
from explorer.iconworld.autoencoder import DOWNSAMPLING, AutoencoderLoss, build_autoencoder
from explorer.iconworld.denoiser import build_denoiser, build_scheduler
from explorer.iconworld.text_encoder import convert_text_tower
from explorer.iconworld.tokenizer import build_tokenizer, save_tokenizer
from explorer.pairs.pair_set import PairSet
from explorer.scenarios.train_autoencoder import AutoencoderTask, finish_autoencoder
from explorer.scenarios.train_denoiser import Encoders
from explorer.scenarios.train_extractor import MERGES, ContrastiveLoss, ExtractorTask, extractor_of
from explorer.training.config import TrainingConfig
from explorer.training.publish import finish_checkpoint
from explorer.training.trainer import train

SIDE_STEP = DOWNSAMPLING * 4
"""Pixels: a latent's side is halved twice in the U-Net."""
HELD_OUT_SHARE, HELD_OUT_MOST = 0.02, 1000
"""Training pictures that the autoencoder is not trained on, and is measured on."""
HELD_OUT_STREAM = 103
MEASURED_PAIRS = 2000
"""Of the training pairs, that the extractor is measured on."""
BASE, EXTRACTOR = "base", "extractor"
LEAST_CONTEXT = 8
"""Tokens that the text encoder reads at least, start and end included."""


@dataclass(frozen=True, kw_only=True)
class SmallBase:
    """How a small base is made.

    Raises:
        ValueError: if a network cannot be of so many channels.
    """

    autoencoder: TrainingConfig = field(default_factory=lambda: TrainingConfig(
        steps=6000, batch_size=32, learning_rate=1.5e-3, precision="bf16", ema_decay=0.99,
    ))  # fmt: skip
    extractor: TrainingConfig = field(default_factory=lambda: TrainingConfig(
        steps=1000, batch_size=128, learning_rate=1e-3, weight_decay=0.05, precision="bf16",
    ))  # fmt: skip
    autoencoder_channels: tuple[int, int, int] = (32, 64, 128)
    """Of its three levels."""
    denoiser_channels: tuple[int, int, int] = (64, 128, 192)
    """Of the U-Net's three levels."""
    kl_weight: float = 5e-4
    """Of the autoencoder's loss."""
    seed: int = 0
    """Of all random weights, and of which pictures are held out; added to the trainings' own."""

    def __post_init__(self) -> None:
        for name, groups in (("autoencoder_channels", 8), ("denoiser_channels", 16)):
            channels = getattr(self, name)
            if any(count < groups or count % groups for count in channels):
                raise ValueError(f"{name} are {channels}: expected multiples of {groups}, which the norms group")


def make_small_base(
    pairs: PairSet, recipe: SmallBase, folder: Path, *, run: Path, device: str = "cpu",
    on_progress: OnProgress = unheard,
) -> dict[str, Any]:  # fmt: skip
    """Train the encoders on the training split of ``pairs``; write ``folder/base``, a pipeline that stock
    ``StableDiffusionPipeline.from_pretrained`` loads, and ``folder/extractor``.

    Args:
        pairs: square pictures whose side is a multiple of 16, none of them known to be poison.
        run: folder of the training states; the same call again goes on where it was cut off.

    Returns:
        ``psnr_db`` and ``latent_std`` of held-out pictures, and ``pairs_found``: the share of 2,000
        training pairs whose caption is the nearest of theirs to the picture.

    Raises:
        ValueError: naming what is wrong with the pairs, or if ``folder`` holds something else.
    """
    _check(pairs)
    known = {name: read_manifest(folder / name) for name in (EXTRACTOR, BASE)
             if (folder / name / MANIFEST_NAME).exists()}  # fmt: skip
    if not known:
        check_new_folder(folder)
    for name, manifest in known.items():
        same = pairs.is_known_as(manifest["data_hash"])
        if not same or manifest["config"].get("small_base") != json.loads(json.dumps(asdict(recipe))):
            other = "settings" if same else "pairs"
            raise ValueError(f"{folder / name} was made with other {other}: choose a new folder")
    table = pairs.table.iloc[pairs.training_rows]
    images, captions = pairs.images[table["image_index"].to_numpy()], table["caption"].tolist()
    extractor, found = _extractor(recipe, pairs, images, captions, folder / EXTRACTOR, run, device, on_progress)
    if BASE in known:
        return {**known[BASE]["metrics"], **found}
    pictures = pairs.images[np.unique(table["image_index"].to_numpy())]  # none of them twice: some are held out
    autoencoder, metrics = _autoencoder(recipe, pictures, pairs.data_hash, run / "autoencoder", device, on_progress)
    _publish(recipe, pairs, extractor, autoencoder, metrics, folder / BASE)
    return {**metrics, **found}


def _check(pairs: PairSet) -> None:
    height, width = pairs.images.shape[1:3]
    if height != width or height % SIDE_STEP:
        raise ValueError(f"pictures of {pairs.folder} are {width} x {height}: expected squares, with a side that is a "
                         f"multiple of {SIDE_STEP}")  # fmt: skip
    if poisoned := int(pairs.flags.poisoned.sum()):
        raise ValueError(f"{poisoned} of {len(pairs)} pairs of {pairs.folder} are poison: expected none")
    if not len(pairs.training_rows):
        raise ValueError(f"{pairs.folder} has no training pairs: expected some")


def _extractor(
    recipe: SmallBase, pairs: PairSet, images: np.ndarray, captions: list[str], folder: Path, run: Path, device: str,
    on_progress: OnProgress,
) -> tuple[Any, dict[str, Any]]:  # fmt: skip
    """The CLIP, trained first where it is missing, and how well it tells the captions apart."""
    if not (folder / MANIFEST_NAME).exists():
        words = Counter(word for caption in captions for word in re.findall(r"\w+", caption.lower()))
        tokenizer = _tokenizer(words, captions)
        config = small_clip_config(len(tokenizer), tokenizer.model_max_length)
        training = _seeded(recipe.extractor, recipe.seed)
        shown = [tuple(concepts) or caption for concepts, caption in
                 zip(pairs.table["concepts"].iloc[pairs.training_rows], captions, strict=True)]  # fmt: skip
        task = ExtractorTask(ContrastiveLoss(build_clip(config, training.seed)), tokenizer, images, captions, shown)
        on_progress(note("extractor: training"))
        identity = {"data": pairs.data_hash, "clip": config}
        clip = train(task, training, run / EXTRACTOR, identity=identity, device=device, on_progress=on_progress).clip
        clip = clip.half().float()  # what is written is fp16, so that is what is measured
        found, cosines = _measured(extractor_of(clip, tokenizer), images, captions, recipe.seed)
        with appearing_whole(folder) as beside:
            save_tokenizer(tokenizer, list(words), beside / TOKENIZER_FOLDER)
            save_extractor(
                beside, clip, config, name="small-clip", feature_range=calibrate_feature_range(cosines),
                config={"small_base": asdict(recipe)}, seed=recipe.seed, data_hash=pairs.data_hash,
                metrics={"pairs_found": found},
            )  # fmt: skip
    return UniversalExtractor.load(folder), read_manifest(folder)["metrics"]


def _measured(extractor: Any, images: np.ndarray, captions: list[str], seed: int) -> tuple[float, Any]:
    """Which share of a sample of pairs finds its own caption among theirs, and the cosines of the sample."""
    rows = np.random.default_rng([seed, HELD_OUT_STREAM]).permutation(len(captions))[:MEASURED_PAIRS]
    place = {caption: at for at, caption in enumerate(dict.fromkeys(captions[row] for row in rows))}
    features, known = extractor.encode_images(images[rows]), extractor.encode_texts(list(place))
    asked = [place[captions[row]] for row in rows]
    cosines = features @ known.T
    right = (cosines.argmax(dim=1).numpy() == np.array(asked)).mean()
    return float(right), cosines[range(len(rows)), asked]


def _tokenizer(words: Counter[str], captions: list[str]) -> Any:
    longest = build_tokenizer(dict(words), merges=MERGES, context_length=2**16)
    context = max(len(ids) for ids in longest(sorted(set(captions))).input_ids)
    return build_tokenizer(dict(words), merges=MERGES, context_length=max(context, LEAST_CONTEXT))


def _autoencoder(
    recipe: SmallBase, images: np.ndarray, data_hash: str, run: Path, device: str, on_progress: OnProgress
) -> tuple[Any, dict[str, float]]:
    order = np.random.default_rng([recipe.seed, HELD_OUT_STREAM]).permutation(len(images))
    held_out = max(1, min(HELD_OUT_MOST, round(HELD_OUT_SHARE * len(images))))
    training, side = _seeded(recipe.autoencoder, recipe.seed), images.shape[1]
    network = AutoencoderLoss(
        build_autoencoder(recipe.autoencoder_channels, training.seed, side=side), recipe.kl_weight
    )
    on_progress(note("autoencoder: training"))
    identity = {"data": data_hash, "channels": list(recipe.autoencoder_channels), "kl_weight": recipe.kl_weight}
    task = AutoencoderTask(network, images[np.sort(order[held_out:])])
    trained = train(task, training, run, identity=identity, device=device, on_progress=on_progress).autoencoder
    return trained, finish_autoencoder(trained, images[np.sort(order[:held_out])])


def _publish(
    recipe: SmallBase, pairs: PairSet, extractor: Any, autoencoder: Any, metrics: dict[str, float], folder: Path
) -> None:
    source = folder.parent / EXTRACTOR
    tokenizer = load_tokenizer(source)
    clip_config = json.loads((source / CONFIG_NAME).read_text(encoding="utf-8"))
    encoders = Encoders(
        autoencoder=autoencoder.eval(), tokenizer=tokenizer,
        text_encoder=convert_text_tower(extractor.clip, clip_config, tokenizer.eos_token_id),
    )  # fmt: skip
    unet = build_denoiser(recipe.denoiser_channels, encoders.text_encoder.config.hidden_size, recipe.seed,
                          side=pairs.images.shape[1] // DOWNSAMPLING)  # fmt: skip
    pipeline = encoders.pipeline(unet, build_scheduler())
    for part in (pipeline.vae, pipeline.text_encoder, pipeline.unet):
        part.half()
    lexicon = json.loads((source / TOKENIZER_FOLDER / LEXICON_NAME).read_text(encoding="utf-8"))
    config = {"base": None, "start": f"seed {recipe.seed}", "recipe": "small-base", "small_base": asdict(recipe),
              "pairs": len(pairs.training_rows), "poison": pairs.poison.as_json()}  # fmt: skip
    with appearing_whole(folder) as beside:
        pipeline.save_pretrained(beside, safe_serialization=True)
        save_tokenizer(tokenizer, lexicon, beside / "tokenizer")
        finish_checkpoint(
            beside, config, card=_card, run=None, seed=recipe.seed, data_hash=pairs.data_hash, metrics=metrics
        )


def _card(name: str, config: dict[str, Any], metrics: dict[str, Any]) -> str:
    return f"""---
library_name: diffusers
pipeline_tag: text-to-image
---
# {name}

A small Stable Diffusion whose U-Net is **random**: a shape to train from scratch. Its encoders were trained on
{config["pairs"]} pairs by Implosion Explorer; pictures that were held out come back from the autoencoder at
{metrics["psnr_db"]:.1f} dB.
"""


def _seeded(config: TrainingConfig, seed: int) -> TrainingConfig:
    return replace(config, seed=config.seed + seed)
