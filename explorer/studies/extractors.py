"""The universal extractor that a study names, loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.evaluation.judge import ConceptJudge
from explorer.pairs.concept_list import ConceptList
from explorer.studies.specs import ExtractorSpec
from explorer.studies.study import Study

if TYPE_CHECKING:
    from explorer.embeddings.universal_extractor import UniversalExtractor


def load_extractor(extractor: ExtractorSpec, device: str = "cpu") -> UniversalExtractor:
    """A folder of ours, or an open_clip model with local weights.

    Raises:
        ValueError: if none is named, or it cannot be loaded.
    """
    if extractor.folder is not None:
        from explorer.embeddings.universal_extractor import UniversalExtractor

        return UniversalExtractor.load(extractor.folder, device)
    if extractor.open_clip is None or extractor.weights is None:
        raise ValueError("the study names no extractor: expected a folder, or open_clip and weights, in study.toml")
    from explorer.embeddings.open_clip_extractor import load_open_clip

    return load_open_clip(
        extractor.open_clip, extractor.weights, extractor.feature_range, device, extractor.pretrained_tag
    )  # fmt: skip


def judge_of(study: Study, concepts: ConceptList, device: str, threshold: float | None = None) -> ConceptJudge | None:
    """What tells what a picture shows; None where the study names no extractor."""
    if study.extractor == ExtractorSpec():
        return None
    return ConceptJudge.of(load_extractor(study.extractor, device), concepts, threshold)
