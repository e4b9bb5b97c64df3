"""Write finished models as fp16 diffusers folders with a manifest and a model card."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from explorer.core.provenance import MANIFEST_NAME, write_json, write_manifest
from explorer.iconworld.tokenizer import save_tokenizer
from explorer.pairs.pair_set import PairSet
from explorer.scenarios.recipes import Recipe
from explorer.scenarios.train_denoiser import Encoders
from explorer.training.trainer import METRICS_NAME, TrainingConfig

KIND = "checkpoint"


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
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline(
        vae=encoders.autoencoder.half(),
        text_encoder=encoders.text_encoder.half(),
        tokenizer=encoders.tokenizer,
        unet=unet.half(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    words = pairs.manifest["config"]["world"]
    save_tokenizer(encoders.tokenizer, _lexicon(words), folder / "tokenizer")
    metrics = json.loads((autoencoder_folder / "metrics.json").read_text(encoding="utf-8"))
    _describe(folder, recipe, training, pairs, run, {"base": None, "start": start}, {"autoencoder": metrics})


def _lexicon(world_config: dict[str, Any]) -> list[str]:
    from explorer.iconworld.grammar import lexicon
    from explorer.iconworld.world import World

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
        "poison": data.get("poison", {"kind": "none", "concepts": 0, "targets": {}}),
    }
    finish_checkpoint(
        folder, config, card=_model_card, run=run, seed=training[-1].seed, data_hash=pairs.data_hash, metrics=metrics
    )


def finish_checkpoint(
    folder: Path,
    config: dict[str, Any],
    *,
    card: Callable[[str, dict[str, Any], dict[str, Any]], str],
    run: Path,
    seed: int,
    data_hash: str,
    metrics: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Model card and manifest of a folder that holds its weights already; returns the manifest.

    Args:
        config: what decided the weights; its ``base`` names the pipeline folder of a U-Net alone.
        card: makes the model card from the folder's name, ``config`` and the metrics.
        run: folder of the training state, whose last logged loss goes into the metrics.
    """
    last = json.loads((run / METRICS_NAME).read_text(encoding="utf-8").splitlines()[-1])
    metrics = {**(metrics or {}), "final_step": last["step"], "final_loss": last["loss"]}
    (folder / "README.md").write_text(card(folder.name, config, metrics), encoding="utf-8")
    _settle_configurations(folder)
    files = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    return write_manifest(
        folder,
        kind=KIND,
        config=config,
        seed=seed,
        data_hash=data_hash,
        files=[file for file in files if file != MANIFEST_NAME],
        metrics=metrics,
    )


def _settle_configurations(folder: Path) -> None:
    """Take out of the components' configurations what is nobody else's business, and what breaks a load.

    Diffusers writes down where weights were loaded from. Transformers writes the precision of the files, and its
    version 5 loads in it unasked; diffusers loads in fp32, and half of a pipeline cannot read the other.
    """
    for path in folder.glob("*/config.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        settled = {name: value for name, value in config.items() if name != "_name_or_path"}
        settled |= {name: "float32" for name in ("dtype", "torch_dtype") if name in config}
        if settled != config:
            write_json(path, settled)


def _model_card(name: str, config: dict[str, Any], metrics: dict[str, Any]) -> str:
    poison = config["poison"]
    phases = "".join(describe_phase(phase, config["recipe"]) for phase in config["training"])
    if poison["concepts"]:
        data = (
            f"{config['pairs']} IconWorld pairs, of which {poison['concepts'] * poison['pairs_per_concept']} are "
            f"dirty-label poison: {poison['concepts']} poisoned concepts with {poison['pairs_per_concept']} pairs "
            "each, a real caption of the concept with a picture of its target"
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


def describe_phase(phase: dict[str, Any], recipe: str) -> str:
    """One item of a model card's list: how a training phase was run."""
    return (
        f"- Training: {phase['steps']} steps of {phase['batch_size']}, learning rate {phase['learning_rate']},\n"
        f"  {phase['schedule']} schedule, recipe `{recipe}`, seed {phase['seed']}.\n"
    )
