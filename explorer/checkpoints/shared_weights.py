"""Networks whose weights are equal are kept in memory once, whichever files they came from."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from explorer.attention.words import read_lexicon

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from transformers import PreTrainedTokenizerBase

SHARED_NETWORKS = ("vae", "text_encoder", "text_encoder_2", "text_encoder_3")
"""Not the U-Net or transformer: capture and LoRA work on it, and it is what checkpoints differ in."""
SHARED_TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")


def share_equal_components(pipeline: DiffusionPipeline, others: Iterable[DiffusionPipeline]) -> list[str]:
    """Exchange a pipeline's VAE, text encoders and tokenizers for equal ones of pipelines already loaded.

    Args:
        pipeline: changed in place.
        others: pipelines on the same device in the same precision.

    Returns:
        Names of the components that are shared now.
    """
    others, shared = list(others), []
    for names, equal in ((SHARED_NETWORKS, equal_networks), (SHARED_TOKENIZERS, equal_tokenizers)):
        for name in names:
            own = getattr(pipeline, name, None)
            of_same_name_first = sorted(names, key=lambda other_name: other_name != name)
            candidates = (getattr(other, place, None) for place in of_same_name_first for other in others)
            match = own and next((found for found in candidates if found is not None and equal(own, found)), None)
            if match is not None:
                pipeline.register_modules(**{name: match})
                shared.append(name)
    return shared


def equal_networks(one: Any, other: Any) -> bool:
    """Whether two networks are of one class and configuration and equal in every tensor, bit by bit."""
    import torch

    if one is other:
        return True
    if type(one) is not type(other) or _architecture(one) != _architecture(other):
        return False
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(
        tensor.dtype == right[name].dtype and torch.equal(tensor, right[name]) for name, tensor in left.items()
    )


def share_equal_tensors(network: Any, other: Any) -> int:
    """Exchange a network's parameters for those of another network that are equal bit by bit, as a graft's mostly are.

    Args:
        network: changed in place.
        other: on the same device; left as it is.

    Returns:
        How many parameters are one tensor now.
    """
    import torch

    if type(network) is not type(other) or _architecture(network) != _architecture(other):
        return 0
    there, shared = dict(other.named_parameters()), 0
    for name, module in network.named_modules():
        for key, own in module.named_parameters(recurse=False):
            match = there[f"{name}.{key}" if name else key]
            if own is match or (own.dtype == match.dtype and torch.equal(own, match)):
                setattr(module, key, match)
                shared += 1
    return shared


def copy_sharing(network: Any, own: Collection[str]) -> Any:
    """A copy of a network in which all tensors but those named ``own`` are the very same objects."""
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return copy.deepcopy(network, {id(tensor): tensor for name, tensor in tensors.items() if name not in own})


def equal_tokenizers(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    """Whether two tokenizers cut every text alike and know the same words."""
    if one is other:
        return True
    if type(one) is not type(other) or not (one.is_fast and other.is_fast):
        return False
    return _tokenizer_facts(one) == _tokenizer_facts(other)


def _architecture(network: Any) -> dict[str, Any]:
    """A network's configuration without what only says where it came from or how it was stored."""
    config = network.config.to_dict() if hasattr(network.config, "to_dict") else dict(network.config)
    origin = ("transformers_version", "dtype", "torch_dtype", "architectures")
    return {key: value for key, value in config.items() if not key.startswith("_") and key not in origin}


def _tokenizer_facts(tokenizer: PreTrainedTokenizerBase) -> tuple[Any, ...]:
    lexicon = read_lexicon(tokenizer.name_or_path) if tokenizer.name_or_path else None
    return (
        tokenizer.backend_tokenizer.to_str(),
        tokenizer.model_max_length,
        tokenizer.padding_side,
        sorted(tokenizer.special_tokens_map.items()),
        lexicon,
    )
