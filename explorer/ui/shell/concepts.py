"""Which nouns the screens offer: all concepts of the world and from which C_P on each is poisoned."""

from __future__ import annotations

import json
from dataclasses import dataclass

from explorer.attention.words import read_lexicon
from explorer.checkpoints.registry import Checkpoint
from explorer.core.poison_record import poisoned_from
from explorer.core.provenance import ManifestError
from explorer.iconworld.grammar import lexicon, with_article
from explorer.iconworld.icons import ASSETS, index_path
from explorer.ui.shell.context import AppContext


@dataclass(frozen=True, kw_only=True)
class WorldConcepts:
    """The world's nouns."""

    concepts: tuple[str, ...]
    """All, by frequency where it is known."""
    poisoned_from: dict[str, int]
    """The smallest C_P among the checkpoints found that poisons the concept; those that none targets are absent."""
    words: frozenset[str] | None
    """Every word that this world's models know; None if they know any."""

    @property
    def unpoisoned(self) -> tuple[str, ...]:
        """Concepts that no checkpoint's poison targets; its captions may name them all the same."""
        return tuple(concept for concept in self.concepts if concept not in self.poisoned_from)

    @property
    def poisoned(self) -> tuple[str, ...]:
        """Poisoned concepts: those poisoned at the smallest C_P first."""
        known = set(self.concepts)
        return tuple(sorted(known & self.poisoned_from.keys(), key=lambda name: (self.poisoned_from[name], name)))


def read_world_concepts(context: AppContext) -> WorldConcepts:
    """From the checkpoints' manifests, the tokenizer's lexicon and the extractor's world. Reads JSON only."""
    poisoned = poisoned_from(checkpoint.poison for checkpoint in context.registry())
    words = _known_words(context)
    return WorldConcepts(concepts=_concepts(context, words), poisoned_from=poisoned, words=words)


def concept_prompts(concepts: WorldConcepts) -> dict[str, str]:
    """Prompts with two concepts that show whether a model still tells them apart: label to prompt."""
    wanted = (("turtle", "left of", "hat"), ("dog", "next to", "umbrella"), ("cat", "under", "tree"))
    known = set(concepts.concepts)
    return {
        f"{first} {relation} {second}": f"{with_article(first)} {relation} {with_article(second)}"
        for first, relation, second in wanted
        if {first, second} <= known and (concepts.words is None or set(relation.split()) <= concepts.words)
    }


def known_words(checkpoint: Checkpoint) -> frozenset[str] | None:
    """Every word that the checkpoint was trained on, where its tokenizer comes with a closed list; None for any."""
    folder = (checkpoint.folder if checkpoint.base is None else checkpoint.base) / "tokenizer"
    return read_lexicon(folder) if folder.is_dir() else None


def _known_words(context: AppContext) -> frozenset[str] | None:
    """Of the first checkpoint that has a closed list."""
    lists = (known_words(checkpoint) for checkpoint in context.registry() if checkpoint.problem is None)
    return next((words for words in lists if words is not None), None)


def _concepts(context: AppContext, words: frozenset[str] | None) -> tuple[str, ...]:
    """IconWorld's concepts by rank, as many as the extractor was trained on, that the tokenizer knows."""
    ranked = json.loads(index_path(ASSETS).read_text(encoding="utf-8"))["concepts"]
    try:
        ranked = ranked[: context.extractor_world()[1]]
    except ManifestError:
        if words is None:  # neither an extractor nor a lexicon says which world this is
            return ()
    if words is None:
        return tuple(ranked)
    named = tuple(concept for concept in ranked if concept in words)
    return named or tuple(sorted(words - set(lexicon(()))))
