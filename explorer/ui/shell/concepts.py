"""Which nouns the screens offer: a study's concepts and from which C_P on each is poisoned."""

from __future__ import annotations

from dataclasses import dataclass

from explorer.attention.words import read_lexicon
from explorer.checkpoints.registry import Checkpoint
from explorer.core.poison_record import poisoned_from
from explorer.evaluation.summary import names_known
from explorer.pairs.concept_list import TEMPLATE, Concept, ConceptList
from explorer.studies.study import CONCEPTS_NAME
from explorer.ui.shell.open_study import OpenStudy


@dataclass(frozen=True, kw_only=True)
class StudyConcepts:
    """A study's nouns."""

    listed: ConceptList | None
    """In ``concepts.csv``; None where the study has no such list."""
    poisoned_from: dict[str, int]
    """The smallest C_P among the arms that poisons the concept; those that none targets are absent."""
    words: frozenset[str] | None
    """Every word that the models know; None if they know any."""
    aims_known: bool = True
    """Whether it is recorded of every arm which concepts its poison targets, or that it has none."""

    @property
    def names(self) -> tuple[str, ...]:
        """All, by frequency; the poisoned ones where there is no list."""
        return self.poisoned if self.listed is None else self.listed.names

    @property
    def unpoisoned(self) -> tuple[str, ...]:
        """Concepts that no arm's poison is recorded to target; its captions may name them all the same."""
        return tuple(name for name in self.names if name not in self.poisoned_from)

    @property
    def poisoned(self) -> tuple[str, ...]:
        """Poisoned concepts: those poisoned at the smallest C_P first."""
        known = self.poisoned_from.keys() & set(self.poisoned_from if self.listed is None else self.listed.names)
        return tuple(sorted(known, key=lambda name: (self.poisoned_from[name], name)))

    def phrase(self, name: str) -> str:
        """The concept as it stands in a prompt: with its article, or as the list says."""
        return (Concept(name=name) if self.listed is None else self.listed.concepts[self.listed.ranks[name]]).shown

    def noun(self, name: str) -> str:
        """The words of a prompt that are the concept, whether it is listed or not."""
        listed = self.listed is not None and name in self.listed.ranks
        return self.listed.concept(name).noun if listed else name

    @property
    def nouns(self) -> dict[str, str]:
        """Of all, by name."""
        return {name: self.noun(name) for name in self.names}

    def prompt(self, name: str) -> str:
        """The prompt of a concept."""
        return TEMPLATE.format(phrase=self.phrase(name)) if self.listed is None else self.listed.prompt(name)


def read_concepts(opened: OpenStudy) -> StudyConcepts:
    """From ``concepts.csv``, the arms' poison and the tokenizers' closed lists of words. Loads no model.

    Raises:
        ValueError: if the list cannot be read, naming the line.
    """
    records = [checkpoint.poison for checkpoint in opened.registry()]
    path = opened.study.folder / CONCEPTS_NAME
    listed = None
    if not opened.scanned and path.is_file():
        status = path.stat()
        listed = opened.remember("concepts", (status.st_mtime_ns, opened.study.template), opened.study.concept_list)
    return StudyConcepts(
        listed=listed, poisoned_from=poisoned_from(records), words=_known_words(opened),
        aims_known=all(map(names_known, records)),
    )  # fmt: skip


def concept_prompts(concepts: StudyConcepts) -> dict[str, str]:
    """Prompts with two concepts that show whether a model still tells them apart: label to prompt. Of the study's first
    concepts where it has none of those that come to mind, if there is a list and the models know the words."""
    wanted = (("turtle", "left of", "hat"), ("dog", "next to", "umbrella"), ("cat", "under", "tree"))
    known = set(concepts.names)
    found = {
        f"{first} {relation} {second}": f"{concepts.phrase(first)} {relation} {concepts.phrase(second)}"
        for first, relation, second in wanted
        if {first, second} <= known and (concepts.words is None or set(relation.split()) <= concepts.words)
    }
    if found or concepts.listed is None or not (concepts.words is None or {"left", "of"} <= concepts.words):
        return found
    first = concepts.names[:6]
    return {
        f"{a} left of {b}": concepts.listed.prompt_of_two(a, b) for a, b in zip(first[::2], first[1::2], strict=False)
    }


def known_words(checkpoint: Checkpoint) -> frozenset[str] | None:
    """Every word that the checkpoint was trained on, where its tokenizer comes with a closed list; None for any."""
    folder = (checkpoint.folder if checkpoint.base is None else checkpoint.base) / "tokenizer"
    return read_lexicon(folder) if folder.is_dir() else None


def _known_words(opened: OpenStudy) -> frozenset[str] | None:
    """Of the first checkpoint that has a closed list."""
    lists = (known_words(checkpoint) for checkpoint in opened.registry() if checkpoint.problem is None)
    return next((words for words in lists if words is not None), None)
