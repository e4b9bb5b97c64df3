"""A whole model in one .safetensors file, in the layout of the original LDM code (CompVis, Stability AI).

Such a file holds weights alone. Configurations, tokenizers and the scheduler (with it epsilon or v-prediction) come
from its base, a diffusers folder of the same family; so do networks that the file lacks. The base needs no weights of
its own for what the file holds. Of a file with averaged weights beside it (``model_ema.``) the plain ones are used, as
in diffusers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.checkpoints.components import check_networks, complete_tokenizers, load_component
from explorer.checkpoints.contents import component_classes
from explorer.checkpoints.families import single_file_parts
from explorer.checkpoints.trial import reason_of
from explorer.checkpoints.weight_files import read_header, read_json

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline


def load_single_file(path: Path, base: Path, name: str, dtype: torch.dtype) -> DiffusionPipeline:
    """Convert a single file to a stock pipeline, on the CPU; nothing is looked up elsewhere.

    Args:
        path: the .safetensors file.
        base: pipeline folder that lends configurations, tokenizers, scheduler and missing networks.
        name: of the checkpoint, for messages.
        dtype: of every network.

    Raises:
        ValueError: naming the checkpoint, if the file does not fit the base's configurations.
    """
    import diffusers

    kind = read_json(base / "model_index.json")["_class_name"]
    try:
        lent = _lent_components(base, single_file_parts(read_header(path)), dtype)
        pipeline = getattr(diffusers, kind).from_single_file(
            str(path), config=str(base), local_files_only=True, dtype=dtype, **lent
        )
    except NotImplementedError as error:  # torch's answer to moving a tensor that the file never filled
        raise ValueError(
            f"checkpoint {name} cannot be loaded: it lacks weights that its base {base.name} has a configuration for"
        ) from error
    except Exception as error:  # what a library raises over a configuration of any content is not foreseeable
        raise ValueError(
            f"checkpoint {name} cannot be loaded: it does not fit the configuration of its base {base.name}: "
            f"{reason_of(error)}"
        ) from error
    check_networks(name, pipeline)
    complete_tokenizers(name, pipeline)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _lent_components(base: Path, own: frozenset[str], dtype: torch.dtype) -> dict[str, Any]:
    """What the base gives as it is: networks missing from the file, tokenizers, and no safety checker.

    Handed over as objects because ``from_single_file`` would look for pickles too.
    """
    import transformers

    index = read_json(base / "model_index.json")
    lent: dict[str, Any] = {
        component: load_component(base / component, class_name, dtype)
        for component, class_name in component_classes(base).items()
        if component not in own
    }
    for component in ("tokenizer", "tokenizer_2"):
        if component in index:
            tokenizer_class = getattr(transformers, index[component][1])
            lent[component] = tokenizer_class.from_pretrained(base / component, local_files_only=True)
    if index["_class_name"] == "StableDiffusionPipeline":
        lent |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return lent
