"""Whether the parts of a pipeline folder can work together, by their configurations alone: tokens, channels, pictures.

Whatever passes here and still does not draw, ``trial`` finds. Reads JSON only.
"""

from __future__ import annotations

from typing import Any

from explorer.checkpoints.families import TRANSFORMER_PIPELINES
from explorer.checkpoints.model_folder import ModelFolder
from explorer.checkpoints.weight_files import WeightError

CLIP_POSITIONS = 77
"""Of a CLIP text encoder whose configuration states none."""
UNSTATED_LENGTH = 10**20
"""A tokenizer's length from here on is transformers' way to say that there is none."""
FLUX_PATCH = 4
"""Latent channels that Flux packs into one of its own."""
PICTURE_CHANNELS = 3


def check_fit(folder: ModelFolder) -> None:
    """Check a pipeline folder's tokenizers against its text encoders, its denoiser against both and its autoencoder.

    Raises:
        WeightError: naming the two numbers that do not go together, or what the pipeline cannot give.
    """
    index = folder.index()
    kind = index.get("_class_name")
    encoders = sorted(name for name, entry in index.items() if name.startswith("text_encoder") and _is_clip(entry))
    configs = {name: text_config(folder.json(f"{name}/config.json")) for name in encoders}
    for name, config in configs.items():
        _check_length(folder, name.replace("text_encoder", "tokenizer"), name, positions_of(config))
    latents = _check_autoencoder(folder) if "vae" in index else None
    if kind in TRANSFORMER_PIPELINES:
        config = folder.json("transformer/config.json")
        packed = FLUX_PATCH if kind == "FluxPipeline" else 1
        _check_channels("transformer", config, {"in_channels": packed}, latents)
        return
    unet = folder.json("unet/config.json")
    _check_channels("unet", unet, {"in_channels": 1, "out_channels": 1}, latents)
    if unet.get("class_embed_type") is not None or unet.get("num_class_embeds") is not None:
        raise WeightError(f"unet/config.json asks for a class of pictures, which {kind} cannot give")
    size = unet.get("sample_size")
    if not all(isinstance(side, int) and side > 0 for side in (size if isinstance(size, list) and size else [size])):
        raise WeightError(f"unet/config.json says sample_size {size!r}: expected the side of its latents")
    widths = [config.get("hidden_size", 512) for config in configs.values()]
    reads = unet.get("cross_attention_dim", 1280)
    known = unet.get("encoder_hid_dim") is None and all(
        isinstance(width, int) and width > 0 for width in (reads, *widths)
    )
    if known and widths and reads != sum(widths):
        raise WeightError(f"unet reads text of width {reads}: its text encoders give {sum(widths)}")


def text_config(config: dict[str, Any]) -> dict[str, Any]:
    """A CLIP text encoder's configuration, which may lie within that of a whole CLIP."""
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) and config.get("model_type") == "clip" else config


def positions_of(config: dict[str, Any]) -> Any:
    """Token positions that a CLIP text encoder reads, by its configuration."""
    return config.get("max_position_embeddings", CLIP_POSITIONS)


def stated_length(value: Any) -> int | None:
    """A tokenizer's ``model_max_length``; None where it states none.

    Raises:
        WeightError: if it is no number of tokens.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 3:
        raise WeightError(f"model_max_length is {value!r}: expected a whole number, at least 3")
    return int(value) if value < UNSTATED_LENGTH else None


def _is_clip(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) == 2 and str(entry[1]).startswith("CLIPTextModel")


def _check_length(folder: ModelFolder, tokenizer: str, encoder: str, positions: Any) -> None:
    name = f"{tokenizer}/tokenizer_config.json"
    if not (folder.path / name).is_file():
        return
    try:
        length = stated_length(folder.json(name).get("model_max_length"))
    except WeightError as error:
        raise WeightError(f"{name}: {error}") from error
    if length is not None and isinstance(positions, int) and length > positions:
        raise WeightError(f"{tokenizer}/ makes texts of {length} tokens: {encoder}/ reads {positions} at most")


def _check_autoencoder(folder: ModelFolder) -> Any:
    """The number of its latent channels."""
    config = folder.json("vae/config.json")
    for field in ("in_channels", "out_channels"):
        if config.get(field, PICTURE_CHANNELS) != PICTURE_CHANNELS:
            raise WeightError(f"vae/config.json says {field} {config[field]!r}: pictures have {PICTURE_CHANNELS}")
    return config.get("latent_channels", 4)


def _check_channels(part: str, config: dict[str, Any], packed: dict[str, int], latents: Any) -> None:
    for field, factor in packed.items():
        channels = config.get(field)
        channels = 4 if channels is None and part == "unet" else channels
        if channels is not None and isinstance(latents, int) and channels != factor * latents:
            verb = "reads" if field == "in_channels" else "gives"
            raise WeightError(
                f"{part} {verb} {channels} channels: its pipeline expects {factor * latents}, as its autoencoder has "
                f"{latents}" + (" (inpainting and depth models take more)" if field == "in_channels" else "")
            )
