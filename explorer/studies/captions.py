"""The captions of an arm's pairs, read without their pictures: what a study's concepts are looked for in."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from explorer.alignment.stores import CAPTION_COLUMNS
from explorer.core.progress import OnProgress, Tally
from explorer.embeddings.store import EmbeddingStore
from explorer.pairs.concept_list import Concept
from explorer.pairs.pair_set import PairSet
from explorer.pairs.sources.detection import open_source
from explorer.studies.concepts import concepts_of_captions, concepts_of_mentions
from explorer.studies.pairs_found import PAIR_SET, STORE, pairs_kind
from explorer.studies.study import Arm

MOST_CAPTIONS = 200_000
"""Of one set, from its beginning: more do not change which nouns are frequent."""


def concepts_in(arm: Arm, on_progress: OnProgress) -> tuple[list[Concept], str]:
    """The concepts of a set's captions by frequency, and where they come from, in words.

    Raises:
        ValueError: if no caption names any.
    """
    pairs = arm.pairs
    if pairs_kind(pairs) == PAIR_SET:
        table = PairSet.load(pairs).table
        if any(len(mentioned) for mentioned in table["concepts"]):
            return concepts_of_mentions(
                table["concepts"], table["caption"]
            ), f"the concepts that {pairs} lists for its captions"
    read = Tally(on_progress, f"captions of {Path(pairs).name}", None, "caption")

    def told() -> Iterator[str]:
        for caption in islice(_captions(arm), MOST_CAPTIONS):
            read.add()
            yield caption

    concepts = concepts_of_captions(told())
    if not concepts:
        raise ValueError(f"no caption of {pairs} names anything: expected nouns, or --concepts with a list of them")
    return concepts, f"the nouns in the captions of {pairs} (its first {MOST_CAPTIONS:,}, where it has more)"


def _captions(arm: Arm) -> Iterator[str]:
    pairs = arm.pairs
    kind = pairs_kind(pairs)
    if kind == PAIR_SET:
        yield from PairSet.load(pairs).table["caption"]
    elif kind == STORE:
        store = EmbeddingStore.open(pairs)
        column = next((name for name in CAPTION_COLUMNS if name in store.metadata_columns()), None)
        if column is None:
            raise ValueError(f"{pairs} has no captions: expected a column {' or '.join(CAPTION_COLUMNS)}")
        for part in store.column(column):
            yield from (caption for caption in part if caption)
    else:
        source = open_source(pairs, **vars(arm.reading))
        yield from (record.caption for record in source.records() if record.problem is None)
