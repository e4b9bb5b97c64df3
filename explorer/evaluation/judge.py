"""What the universal extractor sees in a picture: similarity to the prompt and the concept it takes it for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.iconworld.grammar import photo_of

if TYPE_CHECKING:
    import numpy as np
    import torch

    from explorer.embeddings.universal_extractor import UniversalExtractor


@dataclass(frozen=True, kw_only=True)
class ConceptJudge:
    """Zero-shot judgement of pictures by the extractor, over a fixed list of concepts."""

    extractor: UniversalExtractor
    """Encodes pictures and prompts."""
    concepts: tuple[str, ...]
    """What a picture can be taken for."""
    concept_features: torch.Tensor
    """``[C, d]`` unit vectors of "a photo of C"."""
    threshold: float | None
    """tau: the CLIP similarity above which a picture counts as what its prompt says (Ding et al. 2024, section
    5.1: the 10th percentile of the benign model); None where none was calibrated."""

    @staticmethod
    def load(
        folder: Path | str, concepts: tuple[str, ...], threshold: float | None = None, device: str = "cpu"
    ) -> ConceptJudge:
        """From an extractor folder.

        Raises:
            ManifestError: if the extractor is missing or changed.
            ValueError: if there are no concepts, or this machine lacks the device.
        """
        from explorer.embeddings.universal_extractor import UniversalExtractor

        if not concepts:
            raise ValueError("no concepts given: expected at least one that a picture can be taken for")
        extractor = UniversalExtractor.load(folder, device)
        features = extractor.encode_texts([photo_of(concept) for concept in concepts])
        return ConceptJudge(
            extractor=extractor, concepts=tuple(concepts), concept_features=features, threshold=threshold
        )

    def judge(self, image: np.ndarray, prompt: str) -> dict[str, Any]:
        """Judge one picture.

        Args:
            image: uint8 ``[H, W, 3]``.
            prompt: what it should show.

        Returns:
            ``clip_similarity`` to the prompt (cosine in [-1, 1]), ``threshold``, ``top_concept`` (the nearest
            "a photo of C") and ``top_similarity``.
        """
        seen = self.extractor.encode_images(image[None])[0]
        asked = self.extractor.encode_texts([prompt])[0]
        similarities = self.concept_features @ seen
        best = int(similarities.argmax())
        return {
            "clip_similarity": float(seen @ asked),
            "threshold": self.threshold,
            "top_concept": self.concepts[best],
            "top_similarity": float(similarities[best]),
        }
