"""Opening an arm's pairs, whatever they are kept as."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from explorer.core.progress import OnProgress, note, unheard
from explorer.embeddings.extraction_settings import ExtractionSettings
from explorer.embeddings.partitions import BegunOtherwiseError
from explorer.embeddings.store import EmbeddingStore
from explorer.pairs.pair_set import PairSet
from explorer.pairs.sources.base import Reading
from explorer.pairs.sources.detection import open_source
from explorer.studies.arm_pairs import THUMBNAIL_SIDE, ArmPairs, PairSetPairs
from explorer.studies.pairs_found import PAIR_SET, STORE, pairs_kind
from explorer.studies.stored_pairs import SourcePairs, StoredPairs
from explorer.studies.study import Arm

if TYPE_CHECKING:
    from explorer.embeddings.processes import Processes
    from explorer.embeddings.universal_extractor import UniversalExtractor


def open_arm_pairs(
    arm: Arm,
    extractor: UniversalExtractor,
    concept_names: tuple[str, ...],
    work: Path,
    *,
    processes: Processes | None = None,
    on_progress: OnProgress = unheard,
) -> ArmPairs:
    """Open an arm's pairs; those of a source are embedded first, which goes on where it was stopped.

    Args:
        concept_names: nouns to look for in the captions of pairs that name no concepts.
        work: where a source's embeddings and thumbnails are kept, in a folder called by the arm.
        processes: further processes that embed.
        on_progress: told about the embedding, what was set aside, and what was assumed.

    Raises:
        FileNotFoundError: if nothing lies there.
        ValueError: if the arm has no pairs, or naming what is wrong with them: no source, a store of another
            extractor or without one of the fields, a field that is neither a flag nor a concept.
    """
    from explorer.embeddings.extract import extract_embeddings

    if arm.pairs is None:
        raise ValueError(f"arm {arm.name} has no pairs: expected some in study.toml")
    kind = pairs_kind(arm.pairs)
    if kind == PAIR_SET:
        _refuse(arm, reading=arm.reading != Reading(), poison_fields=bool(arm.poison_fields.named()))
        return PairSetPairs(PairSet.load(arm.pairs), extractor, concept_names, on_progress)
    if kind == STORE:
        _refuse(arm, reading=arm.reading != Reading())
        fields = arm.poison_fields if arm.poison_fields.named() else None  # a store of ours has its own
        stored = StoredPairs(EmbeddingStore.open(arm.pairs), extractor, concept_names, fields)
        on_progress(note(f"{arm.name}: {stored.told}"))
        return stored
    source = open_source(arm.pairs, **vars(arm.reading))
    settings = ExtractionSettings(thumbnails=THUMBNAIL_SIDE, poison=arm.poison_fields)
    # A feature range that is calibrated later changes no feature.
    try:
        embedded = extract_embeddings(
            source, work / arm.name, replace(extractor, feature_range=None), settings, processes=processes,
            on_progress=on_progress,
        )  # fmt: skip
    except BegunOtherwiseError as error:  # they may have taken hours: nobody but their owner throws them away
        raise ValueError(
            f"the embeddings in {work / arm.name} are not of what the arm {arm.name} has now ({error.what} differs): "
            "expected that folder to be removed or moved away, then its pairs are embedded anew"
        ) from error
    pairs = SourcePairs(source, embedded, extractor, concept_names)
    on_progress(note(f"{arm.name}: {pairs.told}"))
    return pairs


def _refuse(arm: Arm, **given: bool) -> None:
    """Settings of a source that are written for pairs which are none would have no effect."""
    if named := [setting for setting, is_given in given.items() if is_given]:
        raise ValueError(
            f"arm {arm.name} has {' and '.join(named)}, and its pairs are of kind {pairs_kind(arm.pairs)}: "
            "expected it for a source of pairs alone"
        )
