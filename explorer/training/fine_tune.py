"""Fine-tune the U-Net of a user's Stable Diffusion on a pair set, as Ding et al. (CCS 2024), section 5.1, do.

Pictures and captions are encoded once, then only the U-Net is on the device. The result is a U-Net-only checkpoint that
names the base beside it. Every part is resumable, and shared by as many processes as a launcher starts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from explorer.checkpoints.components import TEXT_ENCODERS
from explorer.checkpoints.families import FAMILY_NAMES
from explorer.checkpoints.model_folder import BARE_UNET_CLASS
from explorer.checkpoints.module_identity import module_identity
from explorer.checkpoints.pipelines import load_pipeline, noise_of
from explorer.checkpoints.registry import Checkpoint, read_checkpoint
from explorer.checkpoints.weights_hash import weights_hash
from explorer.core.markdown import literal
from explorer.core.new_folder import appearing_whole, check_new_folder
from explorer.core.poison_record import TRAININGS, PoisonRecord
from explorer.core.progress import OnProgress, note, unheard
from explorer.core.provenance import MANIFEST_NAME, hash_json, read_manifest
from explorer.iconworld.denoiser import use_fused_attention, use_training_attention
from explorer.pairs.pair_set import PairSet
from explorer.pairs.sources.base import PairSource
from explorer.training.caption_words import words_unknown_to
from explorer.training.config import default_settings
from explorer.training.diffusion_task import DiffusionTask
from explorer.training.encoded_pairs import EncodedPairs, encode_pair_set
from explorer.training.pairs import counted, imported_pairs
from explorer.training.publish import KIND, describe_phase, finish_checkpoint
from explorer.training.recipes import FineTuningRecipe
from explorer.training.state import finished_steps
from explorer.training.tracking import check_tracker
from explorer.training.trainer import start_accelerator, train

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

BASE_KINDS = ("pipeline", "hub", "unet")


def fine_tune(
    base: Path,
    pairs: PairSet | PairSource,
    recipe: FineTuningRecipe,
    output: Path,
    *,
    run: Path,
    cache: Path,
    left_out: Collection[str] = (),
    device: str = "cpu",
    track: str | None = None,
    on_progress: OnProgress = unheard,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, Any] | None:
    """Fine-tune the U-Net of ``base`` on the training split of ``pairs`` and publish it in ``output``.

    Args:
        base: checkpoint folder: a whole pipeline, or a U-Net on one.
        pairs: a pair set, or a source whose usable pairs are imported into ``run`` first, at the recipe's resolution.
        run: folder of the training state; the same call again goes on where it was cut off.
        cache: folder of encoded pictures and captions, shared by all runs.
        left_out: uids of training pairs that are encoded and not trained on, such as those that a filter removed.
        device: ``cpu`` or ``cuda``.
        track: ``tensorboard`` or ``wandb``.
        on_progress: told what is being done, and how much of it is.
        should_stop: asked after each step; True saves the state and ends without publishing.

    Returns:
        The manifest of the published checkpoint; None where nothing was published by this process: it was stopped, or
        it is not the main one.

    Raises:
        ValueError: if the base is broken or of another family than the recipe's, there are no training pairs or none
            stay, a uid that is left out is not among them,
            ``run`` holds pairs of another source, ``output`` holds something else, or training refuses (see
            :func:`~explorer.training.trainer.train`).
    """
    check_tracker(track)
    if not (output / MANIFEST_NAME).exists():
        check_new_folder(output)
    checkpoint = check_base(base, recipe)
    accelerator = start_accelerator(recipe.training.precision, device)
    on_progress(note(f"{output.name}: loading {checkpoint.name}"))
    pipeline = _starting_from(checkpoint, recipe)
    facts: dict[str, Any] = {"processes": accelerator.num_processes}
    if isinstance(pairs, PairSource):
        with accelerator.main_process_first():
            pairs = imported_pairs(pairs, run, recipe.resolution, on_progress=on_progress)
        facts |= {"quarantined": pairs.manifest["config"]["quarantined"], **counted(pairs)}
    origin = {"base": _pipeline_of(checkpoint, output), **_identities(pipeline)}
    kept = kept_positions(pairs, left_out)
    config = describe_run(pipeline, pairs, recipe, origin, kept, checkpoint)
    if (output / MANIFEST_NAME).exists():
        return _check_published(output, config) if accelerator.is_main_process else None
    facts["captions_with_unknown_words"] = _tell_unknown_words(pipeline, pairs, kept, on_progress)
    on_progress(note(f"{output.name}: encoding {len(pairs.training_rows)} pairs"))
    encoded = encode_pair_set(
        pipeline, pairs, recipe.resolution, cache, device=accelerator.device,
        rank=accelerator.process_index, processes=accelerator.num_processes, on_progress=on_progress,
    ).subset(kept)  # fmt: skip
    unet, scheduler = pipeline.unet, pipeline.scheduler
    del pipeline  # Text encoders and autoencoder are not needed again.
    on_progress(note(f"{output.name}: training for {recipe.training.steps} steps from {finished_steps(run)}"))
    unet = train_unet(
        unet, scheduler, encoded, recipe, run, start=origin["start"], device=device, track=track,
        should_stop=should_stop, on_progress=on_progress,
    )  # fmt: skip
    if not accelerator.is_main_process or finished_steps(run) < recipe.training.steps:
        return None
    return _publish(
        unet, output, config, card=_model_card, run=run, seed=recipe.training.seed, data_hash=pairs.data_hash,
        metrics=facts | {"truncated_captions": encoded.conditioning.truncated},
    )  # fmt: skip


def _tell_unknown_words(pipeline: DiffusionPipeline, pairs: PairSet, kept: np.ndarray, on_progress: OnProgress) -> int:
    """How many distinct captions have words that the model does not know, which is told, with the commonest of them."""
    tokenizers = [getattr(pipeline, name, None) for name in ("tokenizer", "tokenizer_2")]
    captions = pairs.table["caption"].to_numpy()[pairs.training_rows[kept]]
    found = words_unknown_to([each for each in tokenizers if each is not None], captions)
    if found.captions:
        on_progress(note(found.told))
    return found.captions


def _starting_from(base: Checkpoint, recipe: FineTuningRecipe) -> DiffusionPipeline:
    """The base, from scratch with the random weights that its U-Net's class starts with, which hang on the seed."""
    pipeline = load_pipeline(base)
    if recipe.from_scratch:
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(recipe.training.seed)
            pipeline.register_modules(unet=type(pipeline.unet).from_config(pipeline.unet.config))
    return pipeline


def _identities(pipeline: DiffusionPipeline) -> dict[str, str]:
    """``start``, of the U-Net, and ``encoders``, of the autoencoder and text encoders: what it is trained on."""
    networks = {name: getattr(pipeline, name, None) for name in ("vae", *TEXT_ENCODERS)}
    encoders = {name: module_identity(network) for name, network in networks.items() if network is not None}
    return {"start": module_identity(pipeline.unet), "encoders": hash_json(encoders)}


def _publish(unet: Any, output: Path, config: dict[str, Any], **facts: Any) -> dict[str, Any]:
    """Write the checkpoint, whole or not at all; returns the manifest.

    Args:
        facts: the other arguments of :func:`~explorer.training.publish.finish_checkpoint`.

    Raises:
        ValueError: if ``output`` holds something by now.
    """
    with appearing_whole(output) as folder:
        unet.half().save_pretrained(folder / "unet", safe_serialization=True)
        return finish_checkpoint(folder, config, **facts)


def train_unet(
    unet: Any,
    scheduler: Any,
    encoded: EncodedPairs,
    recipe: FineTuningRecipe,
    run: Path,
    *,
    start: str,
    device: str = "cpu",
    **options: Any,
) -> Any:
    """Train ``unet`` on encoded pairs and return it in evaluation mode.

    Args:
        start: identity of the initial weights; part of the run's.
        options: ``track``, ``on_progress`` and ``should_stop`` of :func:`~explorer.training.trainer.train`.
    """
    if device == "cpu":
        use_training_attention(unet)
    unet.to(memory_format=torch.channels_last)
    if {"trained_group", "frozen_group"} & recipe.choices.keys():
        trained = recipe.trained_tensors(dict(unet.named_parameters()), {**unet.config, "_class_name": BARE_UNET_CLASS})
        for name, parameter in unet.named_parameters():
            parameter.requires_grad_(name in trained)
    task = DiffusionTask(
        unet, scheduler, encoded, caption_dropout=recipe.caption_dropout, weighting=recipe.weighting,
        timesteps=recipe.timesteps,
    )  # fmt: skip
    identity = task.identity | {"start": start} | recipe.choices
    trained = train(task, recipe.training, run, identity=identity, device=device, **options).unet
    if device == "cpu":
        use_fused_attention(trained)
    return trained


def check_base(base: Path, recipe: FineTuningRecipe) -> Checkpoint:
    """The checkpoint at ``base``, if it can be fine-tuned by ``recipe``.

    Raises:
        ValueError: naming what is wrong.
    """
    checkpoint = read_checkpoint(base)
    if checkpoint.problem is not None:
        raise ValueError(f"base {checkpoint.name} cannot be fine-tuned: {checkpoint.problem}")
    if checkpoint.kind not in BASE_KINDS:
        raise ValueError(f"base {checkpoint.name} is a {checkpoint.kind}: expected a pipeline folder or a U-Net on one")
    if checkpoint.family != recipe.family:
        raise ValueError(
            f"base {checkpoint.name} is {FAMILY_NAMES[checkpoint.family]}: recipe {recipe.name} expects "
            f"{FAMILY_NAMES[recipe.family]}"
        )
    try:
        noise_of(checkpoint)
        unet = checkpoint.place.component("unet").config()
        recipe.trained_tensors(checkpoint.headers["unet"].shapes, {**unet, "_class_name": BARE_UNET_CLASS})
    except ValueError as error:
        raise ValueError(f"base {checkpoint.name} cannot be fine-tuned: {error}") from error
    return checkpoint


def kept_positions(pairs: PairSet, left_out: Collection[str]) -> np.ndarray:
    """Positions in the training split of the pairs that are trained on, int64 ``[kept]``.

    Raises:
        ValueError: if a uid of ``left_out`` is of no training pair, or no pair stays.
    """
    uids = pairs.table["uid"].iloc[pairs.training_rows]
    if unknown := set(left_out).difference(uids):
        raise ValueError(
            f"{len(unknown)} pairs to leave out, such as {min(unknown)!r}, are not among the {len(uids)} training "
            f"pairs of {pairs.folder}: expected uids of these"
        )
    kept = np.flatnonzero(~uids.isin(set(left_out)))
    if not len(kept):
        raise ValueError(f"all {len(uids)} training pairs of {pairs.folder} are left out: expected some to stay")
    return kept


def describe_run(
    pipeline: DiffusionPipeline, pairs: PairSet, recipe: FineTuningRecipe, origin: dict[str, str], kept: np.ndarray,
    base: Checkpoint,
) -> dict[str, Any]:  # fmt: skip
    """Everything that decides the fine-tuned weights, for the manifest; JSON-serialisable.

    Args:
        kept: as :func:`kept_positions`.
        base: whose poison stays on record, unless training starts from random weights.
    """
    rows, poison = pairs.training_rows, pairs.poison
    part = {}
    if len(kept) < len(rows):
        part, poison = {"kept": hash_json(kept.tolist())}, _poison_of(pairs, rows[kept])
    if not recipe.from_scratch:
        poison = base.poison.followed_by(poison)
        # A U-Net on a pipeline is found again by its file; of a pipeline `base` is the name.
        part |= {"start_weights": base.hash or weights_hash(base)} if base.kind == "unet" else {}
    return {
        "recipe": recipe.name,
        **origin,
        "prediction_type": pipeline.scheduler.config.prediction_type,
        "resolution": recipe.resolution,
        "caption_dropout": recipe.caption_dropout,
        "weighting": recipe.weighting,
        **recipe.choices,
        "training": [asdict(recipe.training) | {"betas": list(recipe.training.betas)}],
        "pairs": len(kept),
        **part,
        "data_hash": pairs.data_hash,
        "poison": poison.as_json(),
    }


def _poison_of(pairs: PairSet, rows: np.ndarray) -> PoisonRecord:
    """What the flags of some pairs say, with the attack that the set's record names."""
    among, whole = pairs.poison_among(rows), pairs.poison
    return replace(among, kind=whole.kind, parameters=whole.parameters) if among.poisoned else among


def _pipeline_of(checkpoint: Checkpoint, output: Path) -> str:
    """The pipeline folder that lends the rest, as the path by which ``output``'s manifest names it."""
    folder = checkpoint.folder if checkpoint.base is None else checkpoint.base
    return os.path.relpath(folder.resolve(), output.resolve().parent)


def _check_published(output: Path, config: dict[str, Any]) -> dict[str, Any]:
    manifest = read_manifest(output, kind=KIND)
    # A setting that came later had its default's effect.
    found = {"weighting": "uniform", **manifest["config"]}
    for name in ("start_weights", "encoders"):  # earlier releases did not record them
        if name in config:
            found.setdefault(name, config[name])
    found["training"] = [default_settings() | phase for phase in found["training"]]
    found["poison"] = config["poison"]  # earlier releases recorded it otherwise; which pairs they are, the hash says
    if found != config:
        differing = sorted(name for name in {*found, *config} if found.get(name) != config.get(name))
        raise ValueError(
            f"{output} holds a checkpoint with another {', '.join(differing)}: choose a new folder, or another --name "
            "for a study's model"
        )
    return manifest


def _model_card(name: str, config: dict[str, Any], metrics: dict[str, Any]) -> str:
    poison = PoisonRecord.read(config["poison"])
    data = f"{config['pairs']} pairs (`{config['data_hash']}`)"
    if TRAININGS in poison.parameters:
        data += ", after training on poisoned pairs: see `poison` in manifest.json"
    elif not poison.recorded:
        data += ", of which it is not, or not of all, recorded what is poison"
    elif poison.poisoned:
        data += f", with {literal(poison.kind)} poison: see `poison` in manifest.json"
    return f"""---
library_name: diffusers
pipeline_tag: text-to-image
---
# {literal(name)}

The U-Net of a Stable Diffusion, fine-tuned by Implosion Explorer to study data poisoning. Autoencoder, text encoder and
scheduler are those of the pipeline folder `{config["base"]}`, whose licence holds for this model too.

- Training data: {data}, {config["resolution"]} x {config["resolution"]} pixels.
{describe_phase(config["training"][0], config["recipe"])}- Target: {config["prediction_type"]}; captions dropped: \
{config["caption_dropout"]:.0%}; precision `{config["training"][0]["precision"]}`.
- Timesteps: drawn {config.get("timesteps", "uniform")}, weighted {config["weighting"]}.
- Distinct captions cut at the end of the text encoder's context: {metrics["truncated_captions"]}.
- Distinct captions with words that the tokenizer does not know: {metrics["captions_with_unknown_words"]}.
- Last training loss: {metrics["final_loss"]:.4f}.
"""
