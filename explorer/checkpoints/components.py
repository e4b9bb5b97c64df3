"""Components of a stock pipeline: loaded one by one from a folder, checked, and exchanged."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any

from explorer.checkpoints.model_folder import ModelFolder
from explorer.checkpoints.part_fit import stated_length
from explorer.checkpoints.weight_files import HALF_VARIANT, choose_variant

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

TEXT_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
NETWORKS = ("unet", "transformer", "vae", *TEXT_ENCODERS)
LOG = logging.getLogger(__name__)


def load_component(folder: ModelFolder, class_name: str, dtype: torch.dtype) -> Any:
    """One network from a component's folder, in evaluation mode, on the CPU.

    ``*.fp16.safetensors`` are read if there are no others; the precision is ``dtype`` anyway.

    Raises:
        ValueError: naming the folder, if its files cannot be read or hold no such network.
    """
    import diffusers
    import transformers

    library = diffusers if hasattr(diffusers, class_name) else transformers
    options = {"variant": HALF_VARIANT} if choose_variant(folder.path, folder.read_json) else {}
    try:
        network, found = getattr(library, class_name).from_pretrained(
            folder.path, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True, **options
        )
    except Exception as error:  # what a library raises over a configuration of any content is not foreseeable
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{folder.path} cannot be loaded as {class_name}: {reason}") from error
    if missing := sorted(found["missing_keys"]):  # the library gives these values of its own
        raise ValueError(f"{folder.path} cannot be loaded as {class_name}: its files lack {missing[0]}")
    return network.eval()


def check_networks(name: str, pipeline: DiffusionPipeline) -> None:
    """Refuse a pipeline with a network that lacks weights or has values that are no numbers.

    Raises:
        ValueError: naming checkpoint, component and tensor.
    """
    for component in NETWORKS:
        if getattr(pipeline, component, None) is not None:
            check_network(name, component, getattr(pipeline, component))


def check_network(name: str, component: str, network: Any) -> None:
    """As :func:`check_networks`, for one network."""
    for tensor_name, tensor in network.state_dict().items():
        if tensor.is_meta:
            raise ValueError(f"checkpoint {name} cannot be loaded: {component} lacks {tensor_name}")
        if not bool(tensor.isfinite().all()):
            raise ValueError(
                f"checkpoint {name} cannot be loaded: {component} has NaN or infinite values in {tensor_name}"
            )


def complete_tokenizers(name: str, pipeline: DiffusionPipeline) -> None:
    """Give every CLIP tokenizer that states no length its text encoder's number of positions, and say so.

    Raises:
        ValueError: naming checkpoint and tokenizer, if it states more tokens than the encoder has positions.
    """
    for component in TEXT_ENCODERS:
        encoder = getattr(pipeline, component, None)
        part = component.replace("text_encoder", "tokenizer")
        tokenizer, positions = getattr(pipeline, part, None), None
        if encoder is not None and tokenizer is not None:
            positions = getattr(encoder.config, "max_position_embeddings", None)  # T5 has none, nor a limit
        if positions is None or tokenizer.model_max_length <= positions:
            continue
        if stated_length(tokenizer.model_max_length) is not None:
            raise ValueError(
                f"checkpoint {name} cannot be loaded: {part} makes texts of {tokenizer.model_max_length} tokens: "
                f"{component} reads {positions} at most"
            )
        tokenizer.model_max_length = positions
        LOG.warning(
            "checkpoint %s: %s states no length: taken to be the %s positions of %s", name, part, positions, component
        )


def with_components(whole: DiffusionPipeline, **exchanged: Any) -> DiffusionPipeline:
    """A pipeline of the same components but for those exchanged, and with its own scheduler, which holds state.

    Its other settings are ``whole``'s too: SDXL's ``force_zeros_for_empty_prompt`` decides what an empty negative
    prompt means, and a watermark changes the pictures.
    """
    components = dict(whole.components) | exchanged
    components["scheduler"] = type(whole.scheduler).from_config(whole.scheduler.config)
    taken = [name for name in inspect.signature(type(whole).__init__).parameters if name not in components]
    options = {name: whole.config[name] for name in taken if name in whole.config}
    if "add_watermarker" in taken:
        options["add_watermarker"] = whole.watermark is not None
    pipeline = type(whole)(**components, **options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
