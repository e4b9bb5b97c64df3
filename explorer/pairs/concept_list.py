"""The concepts that models are asked for: their names by frequency, their groups, and the prompt of each."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from explorer.core.provenance import replacing
from explorer.pairs.articles import with_article

POOL, OTHER, LESS_POPULAR = "pool", "other", "less popular"
GROUPS = (POOL, OTHER, LESS_POPULAR)
"""Where poisoned concepts and their targets are drawn from; other frequent concepts; the paper's ranks 1501 to 2000
(Ding et al. 2024, Table 2)."""
COLUMNS = ("concept", "group", "phrase")
TEMPLATE = "a photo of {phrase}"
"""The evaluation prompt of Ding et al. (2024), section 5.1."""
ARTICLES = ("a", "an", "the", "some")


@dataclass(frozen=True, kw_only=True)
class Concept:
    """One concept.

    Raises:
        ValueError: if it has no name, or its group is none of ``GROUPS``.
    """

    name: str
    """The noun, as poison records and pair sets call it."""
    group: str = OTHER
    """One of ``GROUPS``."""
    phrase: str = ""
    """What stands for it in a prompt, as ``a turtle`` or ``cherries``; without one the name with its article."""

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ValueError(f"concept is {self.name!r}: expected a noun")
        if self.group not in GROUPS:
            raise ValueError(f"group of {self.name!r} is {self.group!r}: expected one of {', '.join(GROUPS)}")

    @property
    def shown(self) -> str:
        """What stands for it in a prompt."""
        return self.phrase or with_article(self.name)

    @property
    def noun(self) -> str:
        """``shown`` without its article: the words of a prompt, one or several, whose attention is the concept's."""
        first, _, rest = self.shown.partition(" ")
        return rest if rest and first.lower() in ARTICLES else self.shown


@dataclass(frozen=True, kw_only=True)
class ConceptList:
    """Concepts in order of frequency rank, the most frequent first.

    Raises:
        ValueError: if there is none or one is named twice, in whatever case, or the template has no place for it.
    """

    concepts: tuple[Concept, ...]
    template: str = TEMPLATE
    """Of prompts, with ``{phrase}`` where the concept stands."""

    def __post_init__(self) -> None:
        if not self.concepts:
            raise ValueError("no concepts: expected at least one")
        counts = Counter(name.casefold() for name in self.names)
        if twice := {name for name in self.names if counts[name.casefold()] > 1}:
            raise ValueError(
                f"{', '.join(sorted(twice))} stand twice among the concepts: expected each once, in whatever case"
            )
        if self.template.count("{phrase}") != 1 or "{" in self.template.replace("{phrase}", ""):
            raise ValueError(f"template is {self.template!r}: expected {{phrase}} in it once, and no other braces")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of all concepts, in order."""
        return tuple(concept.name for concept in self.concepts)

    @cached_property
    def ranks(self) -> dict[str, int]:
        """Name to its frequency rank less one."""
        return {name: rank for rank, name in enumerate(self.names)}

    def of_group(self, group: str) -> tuple[str, ...]:
        """Names of a group's concepts, in order."""
        return tuple(concept.name for concept in self.concepts if concept.group == group)

    def concept(self, name: str) -> Concept:
        """The concept of a name.

        Raises:
            ValueError: if the list has no such concept.
        """
        if name not in self.ranks:
            raise ValueError(f"concept is {name!r}: expected one of the list's {len(self.concepts)}")
        return self.concepts[self.ranks[name]]

    def chosen(self, names: Iterable[str]) -> ConceptList:
        """The list of the concepts named, in the order given.

        Raises:
            ValueError: if the list has no such concept, one is named twice, or none is named.
        """
        return ConceptList(concepts=tuple(map(self.concept, names)), template=self.template)

    def prompt(self, name: str) -> str:
        """The prompt of a concept.

        Raises:
            ValueError: if the list has no such concept.
        """
        return self.template.replace("{phrase}", self.concept(name).shown)

    def prompt_of_two(self, first: str, second: str) -> str:
        """A prompt about two concepts side by side.

        Raises:
            ValueError: if the list has no such concept.
        """
        both = f"{self.concept(first).shown} left of {self.concept(second).shown}"
        return self.template.replace("{phrase}", both)

    def write(self, path: Path) -> None:
        """As a table with the columns ``COLUMNS``, which :meth:`read` reads."""
        with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(COLUMNS)
            writer.writerows((concept.name, concept.group, concept.phrase) for concept in self.concepts)

    @staticmethod
    def read(path: Path, template: str = TEMPLATE) -> ConceptList:
        """From a CSV file with a column ``concept`` and, where they are known, ``group`` and ``phrase``.

        Raises:
            ValueError: naming the line that is no concept, or the file if it is no UTF-8.
        """
        rows = csv.DictReader(io.StringIO(read_utf8(path), newline=""))
        if not rows.fieldnames:
            raise ValueError(f"{path} is empty: expected a column called concept")
        if "concept" not in rows.fieldnames:
            raise ValueError(f"{path} has the columns {rows.fieldnames}: expected one called concept")
        return ConceptList(concepts=tuple(_concepts(rows, path)), template=template)


def read_utf8(path: Path) -> str:
    """The text of a file, without a byte order mark; its line ends are as they lie.

    Raises:
        ValueError: naming the file, if it is no UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8: {error.reason} at byte {error.start}") from error


def _concepts(rows: csv.DictReader, path: Path) -> Iterable[Concept]:
    for row in rows:
        try:
            yield Concept(
                name=(row["concept"] or "").strip(), group=(row.get("group") or OTHER).strip(),
                phrase=(row.get("phrase") or "").strip(),
            )  # fmt: skip
        except ValueError as error:
            raise ValueError(f"{path}, line {rows.line_num}: {error}") from error
