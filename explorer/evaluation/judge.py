"""What the universal extractor sees in a picture: similarity to the prompt and the concept it takes it for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.pairs.concept_list import ConceptList

if TYPE_CHECKING:
    import numpy as np
    import torch

    from explorer.embeddings.universal_extractor import UniversalExtractor

PROMPTS_KEPT = 1024
ROUNDING = 1e-5
"""Of a cosine: a prompt encoded by itself differs by this much from the same one encoded among others."""


@dataclass(frozen=True, kw_only=True)
class ConceptJudge:
    """Zero-shot judgement of pictures by the extractor, over a fixed list of concepts."""

    extractor: UniversalExtractor
    """Encodes pictures and prompts."""
    concepts: ConceptList
    """What a picture can be taken for."""
    concept_features: torch.Tensor
    """``[C, d]`` unit vectors of the concepts' prompts."""
    threshold: float | None = None
    """tau: the CLIP similarity above which a picture counts as what its prompt says (Ding et al. 2024, section
    5.1: the 10th percentile of the benign model); None where none was calibrated."""
    name: str = "extractor"
    asked: dict[str, torch.Tensor] = field(default_factory=dict, repr=False, compare=False)
    """Features of the prompts that were judged last: several models draw the same, in turn."""

    @staticmethod
    def of(extractor: UniversalExtractor, concepts: ConceptList, threshold: float | None = None) -> ConceptJudge:
        """With any extractor that is loaded."""
        features = extractor.encode_texts([concepts.prompt(name) for name in concepts.names])
        return ConceptJudge(extractor=extractor, concepts=concepts, concept_features=features, threshold=threshold)

    @staticmethod
    def load(
        folder: Path | str, concepts: ConceptList, threshold: float | None = None, device: str = "cpu"
    ) -> ConceptJudge:
        """From the folder of an extractor of ours.

        Raises:
            ManifestError: if the extractor is missing or changed.
            ValueError: if this machine lacks the device.
        """
        from explorer.embeddings.universal_extractor import UniversalExtractor

        return ConceptJudge.of(UniversalExtractor.load(folder, device), concepts, threshold)

    def read(self, images: np.ndarray) -> dict[str, Any]:
        """``similarities`` ``[n, C]``: cosines of pictures uint8 ``[n, H, W, 3]`` to the concepts' prompts."""
        return {"similarities": self.extractor.encode_images(images) @ self.concept_features.T}

    def describe(self) -> dict[str, Any]:
        """The extractor's name, and the hash that decides its features."""
        return {"name": self.extractor.name, "identity": self.extractor.identity}

    def judge(self, image: np.ndarray, prompt: str) -> dict[str, Any]:
        """Judge one picture.

        Args:
            image: uint8 ``[H, W, 3]``.
            prompt: what it should show.

        Returns:
            ``clip_similarity`` to the prompt (cosine in [-1, 1]), ``threshold``, ``top_concept`` (the concept
            whose prompt is nearest), ``top_similarity``, ``margin`` (that less the similarity of the second; None of a
            list of one), and ``rank``: 1 plus the number of concepts whose prompt the picture fits better than what it
            was asked for.
        """
        seen = self.extractor.encode_images(image[None])[0]
        asked = self._feature_of(prompt)
        similarities = self.concept_features @ seen
        best, fit = int(similarities.argmax()), float(seen @ asked)
        first = similarities.topk(min(2, len(similarities))).values
        return {
            "clip_similarity": fit,
            "threshold": self.threshold,
            "top_concept": self.concepts.names[best],
            "top_similarity": float(similarities[best]),
            "margin": float(first[0] - first[1]) if len(first) > 1 else None,
            "rank": 1 + int((similarities > fit + ROUNDING).sum()),
        }

    def _feature_of(self, prompt: str) -> torch.Tensor:
        """``[d]``, encoded once."""
        if prompt not in self.asked:
            if len(self.asked) >= PROMPTS_KEPT:
                self.asked.clear()
            self.asked[prompt] = self.extractor.encode_texts([prompt])[0]
        return self.asked[prompt]
