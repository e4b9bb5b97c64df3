"""Any open_clip model as the universal extractor: a name and a local weights file, and nothing from a hub.

open_clip prepares pictures as a model's pretrained tag says, and falls back on OpenAI's mean and deviation where it is
given a file. A file does not say which tag it belongs to, so that is settled here.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError

from explorer.checkpoints.placement import check_place
from explorer.core.bounded_files import load_json
from explorer.core.provenance import hash_file, hash_json
from explorer.embeddings.universal_extractor import UniversalExtractor

LOCAL, HUB = "local-dir:", "hf-hub:"
CONFIG_NAME = "open_clip_config.json"
DEFAULT_TAG = "default"
"""Names open_clip's default preparation, for weights of one's own training."""


def load_open_clip(
    model_name: str,
    weights: Path | str,
    feature_range: tuple[float, float] | None,
    device: str = "cpu",
    pretrained_tag: str | None = None,
) -> UniversalExtractor:
    """An open_clip model with local weights.

    Args:
        model_name: as ``open_clip.list_models()`` has it, or ``local-dir:FOLDER`` for a folder with
            ``open_clip_config.json`` and the tokenizer's files, as models on the Hugging Face hub are stored.
        weights: the .safetensors file.
        feature_range: has no default: Ding et al. use (0.20, 0.45), which belongs to OpenAI's ViT-B/32 on LAION; None
            where only features are wanted.
        pretrained_tag: the open_clip tag that the weights are of or were fine-tuned from (``openai``,
            ``laion2b_s32b_b82k``): it decides how pictures are prepared. ``default`` is open_clip's default. None where
            all tags of the model agree.

    Raises:
        FileNotFoundError: if the weights or the folder are missing.
        ValueError: for a model that open_clip does not know or that needs the hub, an unknown or undecided tag,
            weights that are no safetensors or do not fit the model, and a device that this machine lacks.
    """
    check_place(device, None)
    weights = Path(weights)
    if not model_name.startswith((LOCAL, HUB)):
        model_name = model_name.replace("/", "-")  # ViT-B/32, as the papers write it
    if weights.suffix != ".safetensors":
        raise ValueError(f"{weights}: expected a .safetensors file; pickled weights are never loaded")
    if not weights.is_file():
        raise FileNotFoundError(f"{weights} is no file: expected the .safetensors weights of {model_name}")
    config, preparation = _model_config(model_name)
    _check_needs_no_hub(model_name, config)
    if not model_name.startswith(LOCAL):
        preparation = preparation_of(model_name, pretrained_tag, quick_gelu=bool(config.get("quick_gelu", False)))
    elif pretrained_tag is not None:
        raise ValueError(f"pretrained tag {pretrained_tag!r} is given for {model_name}: its own {CONFIG_NAME} decides")
    clip, preparation = _build(model_name, weights, device, preparation)
    tokenizer = _tokenizer(model_name)
    return UniversalExtractor(
        name=_short_name(model_name),
        clip=clip,
        tokenize=tokenizer,
        overlong=lambda captions: _overlong(tokenizer, captions),
        preprocess=_preprocess(preparation),
        feature_range=feature_range,
        identity=hash_json({"model": config, "weights": hash_file(weights), "preparation": preparation}),
        device=device,
        preparation=preparation,
        picture_size=_side(preparation["size"]),
    )


def _side(size: int | list[int]) -> int | None:
    """Of a square; None for any other shape."""
    sides = {size} if isinstance(size, int) else set(size)
    return sides.pop() if len(sides) == 1 else None


def _short_name(model_name: str) -> str:
    if model_name.startswith(LOCAL):
        return Path(model_name.removeprefix(LOCAL)).resolve().name
    return model_name


def preparation_of(model_name: str, pretrained_tag: str | None, *, quick_gelu: bool) -> dict[str, Any]:
    """Mean, deviation, interpolation and resize mode that open_clip's tags of a model prescribe.

    Raises:
        ValueError: if the tag is none of the model's, was trained with another activation than the model's, or is not
            given although the model's tags differ.
    """
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    tags = list_pretrained_tags_by_model(model_name)
    if pretrained_tag == DEFAULT_TAG or (pretrained_tag is None and not tags):
        return _preparation({})
    if pretrained_tag is None:
        found = {tag: _preparation(get_pretrained_cfg(model_name, tag)) for tag in tags}
        first = found[tags[0]]
        if any(preparation != first for preparation in found.values()):
            raise ValueError(
                f"pretrained models of {model_name} prepare pictures differently, and a weights file does not say "
                f"which it is: expected --pretrained-tag, one of {', '.join(tags)}, or {DEFAULT_TAG}"
            )
        return first
    if pretrained_tag not in tags:
        known = ", ".join([*tags, DEFAULT_TAG])
        raise ValueError(f"pretrained tag is {pretrained_tag!r}: expected one of {model_name}'s, {known}")
    settings = get_pretrained_cfg(model_name, pretrained_tag)
    if bool(settings.get("quick_gelu", False)) and not quick_gelu:
        raise ValueError(
            f"{pretrained_tag} was trained with QuickGELU, and {model_name} computes with plain GELU: expected "
            f"{model_name}-quickgelu"
        )
    return _preparation(settings)


def _preparation(settings: dict[str, Any]) -> dict[str, Any]:
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    merged = merge_preprocess_dict(PreprocessCfg(), settings)
    del merged["size"]  # the model's own
    return {name: list(value) if isinstance(value, tuple) else value for name, value in merged.items()}


def _model_config(model_name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model's architecture, and how a folder's own configuration prepares pictures."""
    import open_clip

    if model_name.startswith(HUB):
        raise ValueError(
            f"{model_name} is on the Hugging Face hub, and nothing is downloaded here: fetch its folder and name it as "
            f"{LOCAL}FOLDER"
        )
    if model_name.startswith(LOCAL):
        path = Path(model_name.removeprefix(LOCAL)) / CONFIG_NAME
        try:
            content = load_json(path)
            return dict(content["model_cfg"]), _preparation(content.get("preprocess_cfg", {}))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is no open_clip configuration ({error!r}): expected model_cfg in it") from error
    if model_name not in open_clip.list_models():
        near = difflib.get_close_matches(model_name, open_clip.list_models(), n=3)
        asked = f": did you mean {', '.join(near)}?" if near else ""
        raise ValueError(f"open_clip knows no model {model_name!r}{asked or ': see open_clip.list_models()'}")
    return open_clip.get_model_config(model_name), {}


def _check_needs_no_hub(model_name: str, config: dict[str, Any]) -> None:
    image_tower = str(config.get("vision_cfg", {}).get("timm_model_name") or "")
    if ":" in image_tower:
        raise ValueError(f"the image tower of {model_name} comes from {image_tower!r}: nothing is downloaded here")
    text = config.get("text_cfg", {})
    if text.get("hf_model_name"):
        raise ValueError(
            f"the text tower of {model_name} is built from {text['hf_model_name']} on the Hugging Face hub, which "
            "open_clip would ask: expected a model whose text tower is open_clip's own"
        )
    if "trust_remote_code" in text.get("tokenizer_kwargs", {}):
        raise ValueError(f"the tokenizer of {model_name} asks to run code of its own: this is never allowed")
    named = text.get("hf_tokenizer_name") or ("a vocabulary" if "siglip" in model_name.lower() else None)
    if named and not model_name.startswith(LOCAL):
        raise ValueError(
            f"the tokenizer of {model_name} ({named}) is on the Hugging Face hub, and nothing is downloaded here: "
            f"fetch the model's folder, with {CONFIG_NAME} and the tokenizer's files, and name it as {LOCAL}FOLDER"
        )


def _build(model_name: str, weights: Path, device: str, preparation: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The model in evaluation mode, and how it prepares pictures, its own size included."""
    import open_clip

    logging.disable(logging.WARNING)  # it warns that the model starts from random weights, which the next line replaces
    try:
        clip = open_clip.create_model(
            model_name, load_weights=False, device=device, force_preprocess_cfg=dict(preparation)
        )
        open_clip.load_checkpoint(clip, str(weights), device=device)
    except (RuntimeError, AssertionError, SafetensorError, KeyError, TypeError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{weights} cannot be loaded as {model_name}: {reason}") from error
    finally:
        logging.disable(logging.NOTSET)
    found = open_clip.get_model_preprocess_cfg(clip)
    return clip.eval(), {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


def _overlong(tokenizer: Any, captions: list[str]) -> list[bool]:
    """Captions of more tokens than the context has, told by what one position more changes: the last position, which no
    longer has to be the end, or the new one, which is no padding."""
    length = tokenizer.context_length
    ends_with_class_token = getattr(tokenizer, "tokenizer_mode", "") == "clips"  # which always stands last
    # A token is at least a byte: what is shorter cannot be cut off, and need not be tokenised twice.
    candidates = [row for row, caption in enumerate(captions) if len(caption.encode()) > length - 2]
    found = [False] * len(captions)
    if candidates:
        asked = ["", *(captions[row] for row in candidates)]
        ids, wider = tokenizer(asked, context_length=length), tokenizer(asked, context_length=length + 1)
        if ends_with_class_token:
            differ = ids[:, -2] != wider[:, length - 2]
        else:
            differ = (ids[:, -1] != wider[:, length - 1]) | (wider[:, length] != wider[0, length])
        for row, cut in zip(candidates, differ[1:].tolist(), strict=True):
            found[row] = cut
    return found


def _tokenizer(model_name: str) -> Any:
    import open_clip

    try:
        return open_clip.get_tokenizer(model_name)
    except (OSError, ValueError, ImportError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"the tokenizer of {model_name} cannot be loaded: {reason}") from error


def _preprocess(preparation: dict[str, Any]) -> Callable[[np.ndarray], torch.Tensor]:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    transform = image_transform_v2(PreprocessCfg(**preparation), is_train=False)
    return lambda images: torch.stack([transform(Image.fromarray(image)) for image in images])
