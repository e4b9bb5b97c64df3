"""How pleasing a picture is, by a published head over CLIP's picture features.

LAION's linear head (``sa_0_4_vit_l_14_linear``) and the improved predictor (``sac+logos+ava1-l14-linearMSE``) both read
unit features of OpenAI's ViT-L/14 and give a score of about 1 to 10. Neither has anything between its linear layers.
A head that ``explorer train-aesthetics`` made names the extractor that it reads and a threshold of its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from explorer.core.provenance import hash_file
from explorer.evaluation.local_weights import read_metadata, read_tensors

if TYPE_CHECKING:
    import numpy as np

    from explorer.embeddings.universal_extractor import UniversalExtractor

PUBLISHED_THRESHOLD = 6.5
"""Of Ding et al. (2024), section 5.1."""
METADATA_KEY = "implosion-explorer"


@dataclass(frozen=True, kw_only=True)
class AestheticsHead:
    """Scores of pictures."""

    extractor: UniversalExtractor
    """Whose features the head was trained on: a head cannot tell one CLIP from another of the same width."""
    weights: Path
    """Where the head came from."""
    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    """Weight ``[out, in]`` and bias ``[out]`` of each layer, fp32, in order."""
    threshold: float = PUBLISHED_THRESHOLD
    """Score above which a picture counts as pleasing."""
    name: str = "aesthetics"

    @staticmethod
    def load(weights: Path, extractor: UniversalExtractor, threshold: float | None = None) -> AestheticsHead:
        """From a local .safetensors file with one linear layer (``weight``, ``bias``) or several
        (``layers.N.weight``, ``layers.N.bias``).

        Args:
            threshold: None for the head's own, and of one that names none for the paper's, 6.5.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is of another kind, holds no such layers, reads features of another width than the
                extractor's, or names another extractor.
        """
        layers, told = _read_layers(weights), json.loads(read_metadata(weights).get(METADATA_KEY, "{}"))
        if (known := told.get("extractor", extractor.identity)) != extractor.identity:
            raise ValueError(f"{weights} was fitted to features of the extractor {known[:16]}: expected that one, got "
                             f"{extractor.name}, which is {extractor.identity[:16]}")  # fmt: skip
        width = extractor.encode_texts(["a photo"]).shape[1]
        if (read := layers[0][0].shape[1]) != width:
            raise ValueError(
                f"{weights} reads features of {read} numbers, and those of {extractor.name} have {width}: expected the "
                "CLIP that the head was trained on, for the published ones OpenAI's ViT-L/14"
            )
        own = float(told.get("threshold", PUBLISHED_THRESHOLD)) if threshold is None else threshold
        return AestheticsHead(extractor=extractor, weights=weights, layers=layers, threshold=own)

    def read(self, images: np.ndarray) -> dict[str, Any]:
        """``aesthetic_scores`` fp32 ``[n]`` of pictures uint8 ``[n, H, W, 3]``, and ``aesthetic_threshold``."""
        values = self.extractor.encode_images(images)
        for weight, bias in self.layers:
            values = torch.nn.functional.linear(values, weight, bias)
        return {"aesthetic_scores": values[:, 0], "aesthetic_threshold": self.threshold}

    def describe(self) -> dict[str, Any]:
        """The head's file and hash, its CLIP and the threshold."""
        clip = {"name": self.extractor.name, "identity": self.extractor.identity}
        return {"head": self.weights.name, "sha256": hash_file(self.weights), "extractor": clip,
                "threshold": self.threshold}  # fmt: skip


def head_metadata(extractor: str, threshold: float) -> dict[str, str]:
    """What a head's file says beside its weights: the identity of the extractor that it reads, and its own threshold.
    One entry, since safetensors keeps no order among several."""
    return {METADATA_KEY: json.dumps({"extractor": extractor, "threshold": threshold})}


def _read_layers(path: Path) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
    tensors = read_tensors(path)
    found = {name.rpartition("weight")[0] for name in tensors if name.endswith("weight")}
    prefixes = sorted(found, key=lambda prefix: (len(prefix), prefix))
    expected = {f"{prefix}{part}" for prefix in prefixes for part in ("weight", "bias")}
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    weights = [tensors[f"{prefix}weight"] for prefix in prefixes]
    if not weights or expected != tensors.keys() or not _is_chain(weights):
        raise ValueError(
            f"{path} holds {shapes}: expected weight and bias of one linear layer or of several in a row (layers.N), "
            "the last of which gives one number"
        )
    return tuple((weight.float(), tensors[f"{prefix}bias"].float())
                 for prefix, weight in zip(prefixes, weights, strict=True))  # fmt: skip


def _is_chain(weights: list[torch.Tensor]) -> bool:
    """Whether each layer reads what the one before it gives, and the last gives one number."""
    if any(weight.ndim != 2 for weight in weights):
        return False
    gives, reads = [len(weight) for weight in weights], [weight.shape[1] for weight in weights]
    return gives == [*reads[1:], 1]
