"""Which split a file or folder belongs to by its name, as dataset hubs name them; splits are never joined unasked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePath

from explorer.pairs.quarantine import Reason, UnusableError

WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation", "holdout"),
}
"""Splits and the words for them (Hugging Face datasets' own list of patterns, and ``holdout``)."""
SPLIT_FIELD = "split"
"""Field or column, in any case, that says a pair's split."""
ALL = "all"
"""Asks for every split."""
UNNAMED = "unnamed"
"""Asks for what lies in no split beside what does."""

_WORD = re.compile(rf"(?:^|[^a-z])({'|'.join(word for words in WORDS.values() for word in words)})(?:$|[^a-z])")
_HUB_NAME = re.compile(r"(?P<split>[\w.-]+?)-\d+-of-\d+(?:-[0-9a-f]+)?(?:\.\w+)*")
"""Files as dataset hubs name them: ``train-00000-of-00005.parquet``."""


def canonical(word: str) -> str:
    """``train``, ``validation`` or ``test`` for the words that mean it; anything else as it is."""
    return next((split for split, words in WORDS.items() if word.strip().casefold() in words), word.strip())


def split_in(name: str) -> str:
    """The split that a folder's or file's name holds as a word of its own (``train2017``, ``cc3m-val-0001``)."""
    found = _WORD.search(name.casefold())
    return canonical(found[1]) if found and " " not in name else ""


def split_of_folders(path: str) -> str:
    """The split by the outermost folder in ``path`` that names one; empty where none does."""
    return next((split for part in PurePath(path).parts[:-1] if (split := split_in(part))), "")


def split_of_file(path: str) -> str:
    """The split of a shard or table: by a hub's numbering, by its folders, or by its own name; empty for none."""
    name = PurePath(path).name
    if numbered := _HUB_NAME.fullmatch(name):
        return canonical(numbered["split"])
    return split_of_folders(path) or split_in(PurePath(name).stem)


def choose_split(found: Mapping[str, int], asked: str | None, what: str) -> set[str]:
    """The splits to read of those found.

    Args:
        found: how many files or pairs each split has; those that belong to none under the empty name.
        asked: a split, ``all``, or None.
        what: names the source, for errors.

    Raises:
        ValueError: if there are several and none is asked for, or there is none of the name asked for.
    """
    counts = ", ".join(f"{split or UNNAMED} ({count})" for split, count in sorted(found.items()))
    if asked == ALL or (asked is not None and not any(found)):
        return set(found)
    if asked is None:
        if len(found) > 1:
            raise ValueError(
                f"{what} holds the splits {counts}: expected one; name it with --split, or join them with --split {ALL}"
            )
        return set(found)
    wanted = "" if asked == UNNAMED else asked if asked in found else canonical(asked)
    if wanted not in found:
        raise ValueError(f"{what} holds the splits {counts}: expected one of them, not {asked!r}")
    return {wanted}


def check_split(split: str, asked: str | None, first: str, *, named: bool) -> None:
    """Refuse a pair of another split than was asked for, or than the first pair's where none was.

    For splits that are known only while a source is read; ``named`` says that its files' names have decided before.

    Raises:
        UnusableError: naming both.
    """
    if named or asked == ALL or not (split or asked in (None, UNNAMED)):
        return
    wanted = first if asked is None else "" if asked == UNNAMED else canonical(asked)
    if split != wanted:
        why = (
            "as the first pair is; name it with --split, or join them with --split all"
            if asked is None
            else "asked for"
        )
        raise UnusableError(Reason.OTHER_SPLIT, f"{split or UNNAMED}: expected {wanted or UNNAMED}, {why}")


def labelled(split: str, asked: str | None) -> str:
    """The split of a pair: its own, or the one asked for where its source names none."""
    return split or ("" if asked in (None, ALL, UNNAMED) else canonical(asked))


def left_out(found: Mapping[str, int], kept: Iterable[str]) -> dict[str, int]:
    """How much the splits hold that are not read."""
    return {split or UNNAMED: count for split, count in sorted(found.items()) if split not in set(kept)}


def check_numbering(names: Iterable[str], what: str) -> None:
    """Refuse two data sets at once: files of one hub's name, number included, in different folders.

    Raises:
        ValueError: naming the folders.
    """
    folders: dict[str, list[str]] = {}
    for path in map(PurePath, names):
        if _HUB_NAME.fullmatch(path.name) and not split_of_folders(path.as_posix()):
            folders.setdefault(path.name, []).append(path.parent.as_posix())
    for name, found in folders.items():
        if len(found) > 1:
            raise ValueError(
                f"{what} holds {name} in the folders {', '.join(found[:4])}: expected one data set, name it"
            )


def named_in_braces(location: str, found: Counter[str]) -> bool:
    """Whether braces in ``location`` name every split, as in ``{train,test}-*.parquet``: then they are asked for."""
    groups = [group.split(",") for group in re.findall(r"\{([^{}]*)\}", location)]
    return any(set(found) <= {split_in(choice) or choice for choice in group} for group in groups if len(group) > 1)
