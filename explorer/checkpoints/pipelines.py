"""Stock diffusers pipelines from checkpoints of every kind; equal components are one object in memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.checkpoints.kinds.pipeline_folder import load_pipeline_folder
from explorer.checkpoints.kinds.single_file import load_single_file
from explorer.checkpoints.noise_schedule import TrainingNoise, check_noise, read_scheduler, training_noise
from explorer.checkpoints.placement import Offload, check_place, place, resolve_precision
from explorer.checkpoints.reasons import reason_of
from explorer.checkpoints.registry import Checkpoint, read_checkpoint, validate
from explorer.checkpoints.shared_weights import share_equal_components
from explorer.checkpoints.weights_hash import check_recorded_files
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
    # Files of a whole pipeline, or of a single file, are compared with their manifest where they are read.
    checkpoint = validate(checkpoint, recorded=checkpoint.ways.on_base and not checkpoint.ways.own_networks)
    if checkpoint.problem is not None:
        raise ValueError(f"checkpoint {checkpoint.name} cannot be loaded: {checkpoint.problem}")
    try:
        shared = {} if shared is None or offload is not None else shared
        whole = _whole(checkpoint, "cpu" if offload is not None else device, dtype, shared)
        pipeline = checkpoint.ways.assemble(checkpoint, whole, dtype)
        return pipeline if offload is None else place(pipeline, device, offload)
    except ValueError:
        raise
    except Exception as error:  # memory that a device lacks, and whatever else a library raises
        raise ValueError(f"checkpoint {checkpoint.name} cannot be loaded: {reason_of(error)}") from error


def _with_base(checkpoint: Checkpoint | Path | str, base: Path | str | None) -> Checkpoint:
    if not isinstance(checkpoint, Checkpoint):
        return read_checkpoint(checkpoint, base=base)
    if base is None:
        return checkpoint
    return replace(read_checkpoint(checkpoint.place, base=base), name=checkpoint.name)


def _whole(
    checkpoint: Checkpoint, device: str, dtype: torch.dtype, shared: dict[Any, DiffusionPipeline]
) -> DiffusionPipeline:
    """The whole pipeline of a checkpoint or of its base, loaded once and sharing equal components with the others."""
    place_key = (str(device), dtype)
    made_from = checkpoint.ways.whole_of(checkpoint)
    origin = origin_of(checkpoint)
    lent = made_from.base if made_from.ways.own_networks else None
    folders = tuple(folder.resolve() for folder in (origin, lent) if folder is not None)
    key = (*place_key, folders, _last_change(folders))
    if key not in shared:
        for stale in [kept for kept in shared if kept[:3] == key[:3]]:
            del shared[stale]
        whole = place(_load_whole(made_from, checkpoint.name, dtype), device, None)
        share_equal_components(whole, [other for kept, other in shared.items() if kept[:2] == place_key])
        shared[key] = whole
    return shared[key]


def origin_of(checkpoint: Checkpoint) -> Path:
    """The folder or file that the checkpoint's whole pipeline is loaded from: of a U-Net or a LoRA, its base; of a
    graft, what its recipient's is loaded from."""
    made_from = checkpoint.ways.whole_of(checkpoint)
    return made_from.folder if made_from.ways.own_networks else made_from.base


def noise_of(checkpoint: Checkpoint) -> TrainingNoise:
    """The noise that a checkpoint's U-Net is trained on, by its configurations; nothing is loaded.

    Raises:
        ValueError: as :func:`~explorer.checkpoints.noise_schedule.training_noise`, and where pipeline and sampler do
            not follow what is stated.
    """
    check_noise(checkpoint.whole)
    own = checkpoint.place if checkpoint.kind == "unet" else checkpoint.whole
    return training_noise(read_scheduler(checkpoint.whole), own.component("unet").json("config.json"))


def last_change(checkpoint: Checkpoint) -> int:
    """When a file of the checkpoint, of its base or, of a graft, of its two models was last written, in nanoseconds
    since the epoch."""
    base = () if checkpoint.base is None else (checkpoint.base,)
    return _last_change((checkpoint.folder, *base, *checkpoint.ways.files_read(checkpoint)))


def _last_change(places: tuple[Path, ...]) -> int:
    files = [path for place in places for path in (files_below(place) if place.is_dir() else (place,))]
    return max(path.stat().st_mtime_ns for path in files if path.is_file())


def _load_whole(made_from: Checkpoint, name: str, dtype: torch.dtype) -> DiffusionPipeline:
    """The pipeline of a folder or a single file, or of the base of what has no whole one; ``name`` is for messages."""
    is_single = made_from.ways.on_base and made_from.ways.own_networks
    whole = made_from if is_single else read_checkpoint(made_from.place.at(origin_of(made_from)))
    whole = validate(whole, recorded=True)
    if whole.problem is not None:
        raise ValueError(f"checkpoint {name} cannot be loaded: {whole.name}: {whole.problem}")
    if is_single:
        check_recorded_files(read_checkpoint(whole.lender))
        return load_single_file(whole.files[0], whole.lender, name, dtype)
    return load_pipeline_folder(whole.place, name, dtype)
