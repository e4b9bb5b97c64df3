"""Stock diffusers pipelines from checkpoints of every kind; equal components are one object in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.checkpoints.components import (
    check_network,
    check_networks,
    complete_tokenizers,
    load_component,
    with_components,
)
from explorer.checkpoints.contents import component_classes, component_folder
from explorer.checkpoints.noise_schedule import TrainingNoise, check_noise, read_scheduler, training_noise
from explorer.checkpoints.placement import Offload, check_place, place, resolve_precision
from explorer.checkpoints.registry import Checkpoint, check_recorded_files, read_checkpoint, validate
from explorer.checkpoints.shared_weights import share_equal_components
from explorer.checkpoints.trial import reason_of
from explorer.checkpoints.weight_files import read_json
from explorer.core.bounded_files import files_below

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline


def load_pipeline(
    checkpoint: Checkpoint | Path | str,
    device: str = "cpu",
    dtype: torch.dtype | str | None = None,
    shared: dict[Any, DiffusionPipeline] | None = None,
    *,
    base: Path | str | None = None,
    offload: Offload | None = None,
) -> DiffusionPipeline:
    """Load a checkpoint as a stock pipeline, ready to generate. Nothing is ever downloaded.

    Files are compared with the SHA-256 that a manifest gives before they are loaded.

    Args:
        checkpoint: from the registry, or the path of a checkpoint.
        device: where to put it.
        dtype: of every network: ``fp32``, ``fp16``, ``bf16`` or a torch dtype; None for fp32, whatever the files hold.
        shared: whole pipelines already loaded; read and filled here. Pass one dictionary for several checkpoints and
            those on one base share everything but the U-Net, and any two share VAE, text encoders and tokenizers
            that are equal. A checkpoint that is a whole pipeline is kept there too, since it may be a base.
        base: pipeline folder for a U-Net, single file or LoRA to stand on, instead of the one its manifest names.
        offload: ``model`` or ``sequential`` CPU offload (accelerate). Such a pipeline shares nothing, because the
            hooks that move its networks belong to it alone.

    Returns:
        ``StableDiffusionPipeline``, ``StableDiffusionXLPipeline``, ``StableDiffusion3Pipeline`` or ``FluxPipeline`` in
        evaluation mode, without safety checker, with a scheduler of its own and no progress bar.

    Raises:
        ValueError: naming the checkpoint and what is wrong with it, or a device or precision that cannot be used.
    """
    dtype = resolve_precision(dtype)
    check_place(device, offload)
    checkpoint = _with_base(checkpoint, base)
    # A whole pipeline's files are compared with its manifest where they are read.
    checkpoint = validate(checkpoint, recorded=checkpoint.kind not in ("pipeline", "hub"))
    if checkpoint.problem is not None:
        raise ValueError(f"checkpoint {checkpoint.name} cannot be loaded: {checkpoint.problem}")
    try:
        if offload is not None:
            return place(_assemble(checkpoint, "cpu", dtype, {}), device, offload)
        return _assemble(checkpoint, device, dtype, {} if shared is None else shared)
    except ValueError:
        raise
    except Exception as error:  # memory that a device lacks, and whatever else a library raises
        raise ValueError(f"checkpoint {checkpoint.name} cannot be loaded: {reason_of(error)}") from error


def _with_base(checkpoint: Checkpoint | Path | str, base: Path | str | None) -> Checkpoint:
    if not isinstance(checkpoint, Checkpoint):
        return read_checkpoint(checkpoint, base=base)
    if base is None:
        return checkpoint
    return replace(read_checkpoint(checkpoint.folder, base=base), name=checkpoint.name)


def _assemble(
    checkpoint: Checkpoint, device: str, dtype: torch.dtype, shared: dict[Any, DiffusionPipeline]
) -> DiffusionPipeline:
    """The checkpoint's pipeline on a device, from whole pipelines kept in ``shared``."""
    whole = _whole(checkpoint, device, dtype, shared)
    if checkpoint.kind == "lora":
        from explorer.checkpoints.lora import apply_lora

        return apply_lora(whole, checkpoint)
    if checkpoint.kind == "unet":
        return with_components(whole, unet=_load_unet(checkpoint, device, dtype))
    return with_components(whole)


def _whole(
    checkpoint: Checkpoint, device: str, dtype: torch.dtype, shared: dict[Any, DiffusionPipeline]
) -> DiffusionPipeline:
    """The whole pipeline of a checkpoint or of its base, loaded once and sharing equal components with the others."""
    place_key = (str(device), dtype)
    origin = origin_of(checkpoint)
    lender = checkpoint.base if checkpoint.kind == "single-file" else None
    folders = tuple(folder.resolve() for folder in (origin, lender) if folder is not None)
    key = (*place_key, folders, _last_change(folders))
    if key not in shared:
        for stale in [kept for kept in shared if kept[:3] == key[:3]]:
            del shared[stale]
        if lender is not None:
            from explorer.checkpoints.single_file import load_single_file

            check_recorded_files(read_checkpoint(lender))
            whole = load_single_file(checkpoint.files[0], lender, checkpoint.name, dtype)
        else:
            whole = _load_whole(origin, checkpoint.name, dtype)
        whole = place(whole, device, None)
        share_equal_components(whole, [other for kept, other in shared.items() if kept[:2] == place_key])
        shared[key] = whole
    return shared[key]


def origin_of(checkpoint: Checkpoint) -> Path:
    """The folder or file that the checkpoint's whole pipeline is loaded from: of a U-Net or a LoRA, its base."""
    return checkpoint.base if checkpoint.kind in ("unet", "lora") else checkpoint.folder


def noise_of(checkpoint: Checkpoint) -> TrainingNoise:
    """The noise that a checkpoint's U-Net is trained on, by its configurations; nothing is loaded.

    Raises:
        ValueError: as :func:`~explorer.checkpoints.noise_schedule.training_noise`, and where pipeline and sampler do
            not follow what is stated.
    """
    whole = checkpoint.base or checkpoint.folder
    check_noise(whole)
    own = checkpoint.folder if checkpoint.kind == "unet" else whole
    return training_noise(read_scheduler(whole), read_json(component_folder(own, "unet") / "config.json"))


def forget_others(shared: dict[Any, DiffusionPipeline], origins: Iterable[Path]) -> None:
    """Drop whole pipelines from ``shared``, but for those loaded from one of ``origins``."""
    kept = {origin.resolve() for origin in origins}
    for key in [key for key in shared if key[2][0] not in kept]:
        del shared[key]


def last_change(checkpoint: Checkpoint) -> int:
    """When a file of the checkpoint or of its base was last written, in nanoseconds since the epoch."""
    return _last_change((checkpoint.folder, *(() if checkpoint.base is None else (checkpoint.base,))))


def _last_change(places: tuple[Path, ...]) -> int:
    files = [path for place in places for path in (files_below(place) if place.is_dir() else (place,))]
    return max(path.stat().st_mtime_ns for path in files if path.is_file())


def _load_whole(folder: Path, name: str, dtype: torch.dtype) -> DiffusionPipeline:
    import diffusers

    whole = validate(read_checkpoint(folder), recorded=True)
    if whole.problem is not None:
        raise ValueError(f"checkpoint {name} cannot be loaded: {whole.name}: {whole.problem}")
    kind = read_json(folder / "model_index.json")["_class_name"]
    networks: dict[str, Any] = {
        component: load_component(folder / component, class_name, dtype)
        for component, class_name in component_classes(folder).items()
    }
    options: dict[str, Any] = {}
    if kind == "StableDiffusionPipeline":
        options = {"safety_checker": None, "requires_safety_checker": False}
        if not (folder / "feature_extractor").is_dir():  # the safety checker's, which is not loaded either
            options["feature_extractor"] = None
    elif kind == "StableDiffusion3Pipeline" and "text_encoder_3" not in networks:
        options = {"text_encoder_3": None, "tokenizer_3": None}
    named = name if folder.name == Path(name).name else f"{name}, on its base {folder.name},"
    try:
        pipeline = getattr(diffusers, kind).from_pretrained(
            folder, use_safetensors=True, local_files_only=True, **networks, **options
        )
    except Exception as error:  # what a library raises over tokenizers of any content is not foreseeable
        raise ValueError(f"checkpoint {named} cannot be loaded: {reason_of(error)}") from error
    check_networks(named, pipeline)
    complete_tokenizers(named, pipeline)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _load_unet(checkpoint: Checkpoint, device: str, dtype: torch.dtype) -> Any:
    unet = load_component(component_folder(checkpoint.folder, "unet"), "UNet2DConditionModel", dtype)
    check_network(checkpoint.name, "unet", unet)
    return unet.to(device)
