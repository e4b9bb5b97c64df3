"""Stock diffusers pipelines from checkpoints; poisoned U-Nets share the rest of their base in memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.models.checkpoints import Checkpoint, read_checkpoint, validate

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline


def load_pipeline(
    checkpoint: Checkpoint | Path | str,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    shared: dict[Any, DiffusionPipeline] | None = None,
) -> DiffusionPipeline:
    """Load a checkpoint as a stock pipeline, ready to generate.

    Args:
        checkpoint: from the registry, or a checkpoint folder.
        device: where to put it.
        dtype: of every component; None for fp32, whatever the files hold.
        shared: base pipelines already loaded, by ``(folder, device, dtype)``; read and filled here. Pass one
            dictionary for all checkpoints of a base and they share VAE, text encoder and tokenizer objects.
            A checkpoint that is a whole pipeline is kept there too, since it may be a base.

    Returns:
        ``StableDiffusionPipeline`` (or the XL one) in evaluation mode, without safety checker, with a
        scheduler of its own and no progress bar.

    Raises:
        ValueError: naming the checkpoint and what is wrong with it.
    """
    import torch

    checkpoint = checkpoint if isinstance(checkpoint, Checkpoint) else read_checkpoint(checkpoint)
    checkpoint = validate(checkpoint)
    if checkpoint.problem is not None:
        raise ValueError(f"checkpoint {checkpoint.name} cannot be loaded: {checkpoint.problem}")
    dtype = torch.float32 if dtype is None else dtype
    shared = {} if shared is None else shared
    key = (_pipeline_folder(checkpoint).resolve(), str(device), dtype)
    if key not in shared:
        shared[key] = _load_whole(key[0], checkpoint.name, device, dtype)
    whole = shared[key]
    unet = whole.unet
    if checkpoint.base is not None:
        unet = _load_unet(checkpoint, device, dtype)
        if unet.config.cross_attention_dim != whole.unet.config.cross_attention_dim:
            raise ValueError(
                f"checkpoint {checkpoint.name} cannot be loaded: its U-Net reads text of width "
                f"{unet.config.cross_attention_dim}, its base gives {whole.unet.config.cross_attention_dim}"
            )
    return _with_unet(whole, unet)


def _pipeline_folder(checkpoint: Checkpoint) -> Path:
    return checkpoint.folder if checkpoint.base is None else checkpoint.base


def _load_whole(folder: Path, name: str, device: str, dtype: torch.dtype) -> DiffusionPipeline:
    import diffusers

    whole = validate(read_checkpoint(folder))
    if whole.problem is not None:
        raise ValueError(f"checkpoint {name} cannot be loaded: {whole.name}: {whole.problem}")
    kind = diffusers.DiffusionPipeline.load_config(folder, local_files_only=True)["_class_name"]
    options = {} if "XL" in kind else {"safety_checker": None, "requires_safety_checker": False}
    pipeline = getattr(diffusers, kind).from_pretrained(
        folder, dtype=dtype, use_safetensors=True, local_files_only=True, **options
    )
    for component in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if getattr(pipeline, component, None) is not None:
            _check_finite(name, component, getattr(pipeline, component))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def _load_unet(checkpoint: Checkpoint, device: str, dtype: torch.dtype) -> Any:
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(
        checkpoint.folder / "unet", dtype=dtype, use_safetensors=True, local_files_only=True
    )
    _check_finite(checkpoint.name, "unet", unet)
    return unet.eval().to(device)


def _with_unet(whole: DiffusionPipeline, unet: Any) -> DiffusionPipeline:
    """A pipeline of the same components with another U-Net and its own scheduler, which holds state."""
    components = dict(whole.components)
    components["unet"] = unet
    components["scheduler"] = type(whole.scheduler).from_config(whole.scheduler.config)
    options = {"requires_safety_checker": False} if "safety_checker" in components else {}
    pipeline = type(whole)(**components, **options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _check_finite(name: str, component: str, module: Any) -> None:
    for tensor_name, tensor in module.state_dict().items():
        if not bool(tensor.isfinite().all()):
            raise ValueError(
                f"checkpoint {name} cannot be loaded: {component} has NaN or infinite values in {tensor_name}"
            )
