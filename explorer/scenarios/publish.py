"""Write the finished models of the embedded world as fp16 diffusers folders."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from explorer.core.poison_record import PoisonRecord
from explorer.iconworld.grammar import lexicon
from explorer.iconworld.tokenizer import save_tokenizer
from explorer.iconworld.world import World
from explorer.pairs.pair_set import PairSet
from explorer.scenarios.recipes import Recipe
from explorer.scenarios.train_denoiser import Encoders
from explorer.training.config import TrainingConfig
from explorer.training.publish import describe_phase, finish_checkpoint


def publish_denoiser(
    folder: Path,
    unet: Any,
    *,
    recipe: Recipe,
    training: tuple[TrainingConfig, ...],
    pairs: PairSet,
    base: str,
    run: Path,
    start: str | None = None,
) -> None:
    """A U-Net-only checkpoint that shares the other parts of the pipeline folder ``base`` beside it.

    Args:
        training: the phases behind it, in order.
    """
    unet.half().save_pretrained(folder / "unet", safe_serialization=True)
    _describe(folder, recipe, training, pairs, run, {"base": base, "start": start}, {})


def publish_pipeline(
    folder: Path,
    unet: Any,
    encoders: Encoders,
    scheduler: Any,
    autoencoder_folder: Path,
    *,
    recipe: Recipe,
    training: tuple[TrainingConfig, ...],
    pairs: PairSet,
    run: Path,
    start: str | None = None,
) -> None:
    """A whole pipeline that stock ``StableDiffusionPipeline.from_pretrained`` loads, be a precision named or not."""
    pipeline = encoders.pipeline(unet, scheduler)
    for part in (pipeline.vae, pipeline.text_encoder, pipeline.unet):
        part.half()
    pipeline.save_pretrained(folder, safe_serialization=True)
    words = pairs.manifest["config"]["world"]
    save_tokenizer(encoders.tokenizer, _lexicon(words), folder / "tokenizer")
    metrics = json.loads((autoencoder_folder / "metrics.json").read_text(encoding="utf-8"))
    _describe(folder, recipe, training, pairs, run, {"base": None, "start": start}, {"autoencoder": metrics})


def _lexicon(world_config: dict[str, Any]) -> list[str]:
    return lexicon(World.from_config(world_config).concepts)


def _describe(
    folder: Path,
    recipe: Recipe,
    training: tuple[TrainingConfig, ...],
    pairs: PairSet,
    run: Path,
    origin: dict[str, Any],
    metrics: dict[str, Any],
) -> None:
    data = pairs.manifest["config"]
    config = {
        "recipe": recipe.name,
        **origin,
        "training": [asdict(phase) for phase in training],
        "world": data["world"],
        "pairs": len(pairs.training_rows),
        "poison": pairs.poison.as_json(),
    }
    finish_checkpoint(
        folder, config, card=_model_card, run=run, seed=training[-1].seed, data_hash=pairs.data_hash, metrics=metrics
    )


def _model_card(name: str, config: dict[str, Any], metrics: dict[str, Any]) -> str:
    poison = PoisonRecord.read(config["poison"])
    phases = "".join(describe_phase(phase, config["recipe"]) for phase in config["training"])
    if poison.poisoned:
        data = (
            f"{config['pairs']} IconWorld pairs, of which {poison.pairs} are {poison.kind} poison of "
            f"{poison.concept_count} concepts: see `poison` in manifest.json"
        )
    else:
        data = f"{config['pairs']} benign IconWorld pairs"
    origin = "fine-tuned from `base`" if config["start"] else "trained from scratch"
    return f"""---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---
# IconWorld {name}

A small Stable Diffusion of the embedded world of Implosion Explorer, {origin}, made to study data poisoning. It draws
64 x 64 icons of {config["world"]["concept_count"]} nouns and nothing else.

- Training data: {data}.
{phases}- Last training loss: {metrics["final_loss"]:.4f}. What it draws is measured by `python -m explorer evaluate`.
- Icons: Noto Emoji (Apache-2.0), Twemoji (CC-BY-4.0), Fluent Emoji (MIT); see NOTICE.
"""
