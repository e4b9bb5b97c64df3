"""How near concepts are to those that are poisoned: poison of one reaches its synonyms and neighbours."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from explorer.pairs.concept_list import ConceptList

if TYPE_CHECKING:
    from explorer.embeddings.universal_extractor import UniversalExtractor


def distances_to_poisoned(
    extractor: UniversalExtractor, concepts: ConceptList, poisoned: Iterable[str]
) -> dict[str, float] | None:
    """L2 distance of every concept to the nearest poisoned one, by name; 0 for those that are poisoned.

    Of the text features of the nouns, in the length that the text tower gives them: Ding et al. (2024), section 4, who
    call concepts unrelated from 4.8 on. That number belongs to the scale of their CLIP.

    Returns:
        None if nothing is poisoned.
    """
    nouns = {each.name: each.noun for each in concepts.concepts}
    if not (aimed_at := [nouns.get(name, name) for name in poisoned]):
        return None
    near = extractor.encode_texts(aimed_at, unit=False)
    nearest = torch.cdist(extractor.encode_texts(list(nouns.values()), unit=False), near,
                          compute_mode="donot_use_mm_for_euclid_dist").amin(dim=1)  # fmt: skip
    return dict(zip(nouns, nearest.tolist(), strict=True))
