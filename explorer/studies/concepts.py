"""A study's first ``concepts.csv``: what its captions speak of, by frequency, for a person to edit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from explorer.core.poison_record import PoisonRecord
from explorer.pairs.concept_list import LESS_POPULAR, OTHER, POOL, Concept, ConceptList

MOST_CONCEPTS = 2000
"""As many as Ding et al. (2024), Table 2, rank."""
MOST_IN_POOL = 500
"""Of the paper's pool of poisoned concepts and targets."""
GENERIC = frozenset((
    "background", "clipart", "closeup", "design", "drawing", "file", "graphic", "icon", "illustration", "image", "item",
    "kind", "lot", "number", "part", "photo", "photograph", "photographer", "photography", "photoshoot", "pic",
    "picture", "piece", "portrait", "shot", "sketch", "stock", "style", "thing", "thumbnail", "type", "vector", "view",
    "wallpaper", "way",
))  # fmt: skip
"""Nouns that say what a picture is, not what it shows."""
_WORD = re.compile(r"[a-z][a-z'’-]*[a-z]")
PLURAL_TAG = "NNS"


def concepts_of_captions(captions: Iterable[str]) -> list[Concept]:
    """The nouns of captions, the most frequent first, generic ones left out; groups as in :func:`grouped`.

    A word is a noun where TextBlob's English tagger takes more than half of its uses for one. A plural counts for its
    singular where that is used, too; otherwise it stands without an article in prompts. A caption counts a noun once.
    """
    # The package's start takes seconds, which no other command should wait for.
    from textblob.en import tag
    from textblob.en.inflect import singularize

    used, nouns, plurals = Counter(), Counter(), Counter()
    for caption in captions:
        # In lower case, since captions in title case would be names, all of them.
        tags = {word: kind for word, kind in tag(caption.lower()) if _WORD.fullmatch(word)}
        used.update(tags.keys())
        nouns.update(word for word, kind in tags.items() if kind.startswith("NN"))
        plurals.update(word for word, kind in tags.items() if kind == PLURAL_TAG)
    counts = Counter({word: count for word, count in nouns.items() if 2 * count > used[word]})
    for word in [word for word in counts if 2 * plurals[word] > counts[word]]:
        single = singularize(word)
        if single != word and counts[single]:
            counts[single] += counts.pop(word)
    names = _by_frequency(counts)
    return grouped([Concept(name=name, phrase=name if 2 * plurals[name] > nouns[name] else "") for name in names])


def concepts_of_mentions(mentions: Iterable[Iterable[str]], captions: Iterable[str]) -> list[Concept]:
    """The concepts that a pair set lists for each caption, the most frequent first; groups as in :func:`grouped`.

    One whose captions are mostly its name alone is a class label: it stands without an article in prompts.
    """
    counts, alone = Counter(), Counter()
    for mentioned, caption in zip(mentions, captions, strict=True):
        counts.update(set(mentioned))
        alone.update({caption} & set(mentioned))
    return grouped([Concept(name=name, phrase=name if 2 * alone[name] > counts[name] else "")
                    for name in _by_frequency(counts)])  # fmt: skip


def grouped(concepts: list[Concept]) -> list[Concept]:
    """With groups by rank: the pool is the first half, at most ``MOST_IN_POOL``, the last sixth is less popular."""
    pool, last = min(-(-len(concepts) // 2), MOST_IN_POOL), len(concepts) - len(concepts) // 6
    groups = [POOL if rank < pool else OTHER if rank < last else LESS_POPULAR for rank in range(len(concepts))]
    return [Concept(name=each.name, group=group, phrase=each.phrase)
            for each, group in zip(concepts, groups, strict=True)]  # fmt: skip


def with_poisoned(concepts: list[Concept], records: Iterable[PoisonRecord]) -> tuple[ConceptList, list[str]]:
    """The list with every concept that a record poisons: in the pool, after the others where captions name it nowhere.

    Returns:
        The list, and the names that were added.

    Raises:
        ValueError: if there is no concept at all.
    """
    poisoned = {name.casefold(): name for record in records for name in record.names}
    known = {each.name.casefold() for each in concepts}
    added = [name for alike, name in poisoned.items() if alike not in known]
    kept = [_as_recorded(each, poisoned.get(each.name.casefold())) for each in concepts]
    return ConceptList(concepts=(*kept, *(Concept(name=name, group=POOL) for name in added))), added


def _as_recorded(concept: Concept, poisoned: str | None) -> Concept:
    """In the pool under the name that a poison record has for it, where one has; its prompt stays."""
    if poisoned is None:
        return concept
    phrase = concept.phrase if poisoned == concept.name else concept.shown
    return Concept(name=poisoned, group=POOL, phrase=phrase)


def _by_frequency(counts: Counter[str]) -> list[str]:
    """At most ``MOST_CONCEPTS`` names, those of one frequency by the alphabet."""
    kept = [name for name in counts if name.casefold() not in GENERIC]
    return sorted(kept, key=lambda name: (-counts[name], name))[:MOST_CONCEPTS]
