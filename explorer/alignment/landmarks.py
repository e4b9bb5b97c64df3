"""Trusted landmarks: the pairs, named in a file, that structure distances are measured to.

Where poison is suspected, landmarks drawn from all pairs would let poison vouch for poison.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HEADERS = {"row": False, "uid": True}
"""First line of a file -> whether its other lines are uids."""
SAY_WHICH = "say which with --landmark-rows or --landmark-uids, or by a first line row or uid"


@dataclass(frozen=True, kw_only=True)
class LandmarkList:
    """Trusted pairs of a set or a store, by row number or by uid."""

    path: Path
    """The file that names them; for errors."""
    by_uid: bool | None
    """Whether ``entries`` are uids; row numbers otherwise. None where they are numbers and nobody said which: row
    numbers, unless the pairs have numbers for uids."""
    entries: tuple[str, ...]
    """Different ones, at least one, as they are written."""

    def positions(self, measured: np.ndarray | range, uids: Iterable[Sequence[str]]) -> np.ndarray:
        """Where the landmarks lie among the measured pairs, int64 ``[landmarks]`` ascending.

        Args:
            measured: row number of each measured pair, ascending.
            uids: uids of *all* rows, in parts and in order; not read where the landmarks are said to be row numbers.

        Raises:
            ValueError: naming landmarks that are unknown, that are uids of several rows, or that are not measured, or
                if they can be meant as rows and as uids.
        """
        if self.by_uid is None:
            self._refuse_numeric_uids(uids)
        row_of = self._rows_of_uids(uids) if self.by_uid else {entry: int(entry) for entry in self.entries}
        rows = np.sort(np.array([row_of[entry] for entry in self.entries], dtype=np.int64))
        if isinstance(measured, range):  # all rows of a store: their numbers need not be held
            inside, found = rows < len(measured), rows
        else:
            found = np.searchsorted(measured, rows)
            inside = (found < len(measured)) & (measured[np.minimum(found, len(measured) - 1)] == rows)
        outside = set(rows[~inside].tolist())
        self._refuse([entry for entry in self.entries if row_of[entry] in outside], "not among the measured pairs")
        return found

    def _refuse_numeric_uids(self, uids: Iterable[Sequence[str]]) -> None:
        numeric = next((uid for part in uids for uid in part if _is_row_number(str(uid))), None)
        if numeric is not None:
            raise ValueError(
                f"{self.path} names {self.entries[0]!r}, and pairs have uids that are numbers, such as {numeric!r}: it "
                f"could be a row or a uid; {SAY_WHICH}"
            )

    def _rows_of_uids(self, uids: Iterable[Sequence[str]]) -> dict[str, int]:
        wanted, first = set(self.entries), 0
        found: dict[str, int] = {}
        repeated: dict[str, None] = {}
        for part in uids:
            for row, uid in enumerate(map(str, part), first):
                if uid in wanted and found.setdefault(uid, row) != row:
                    repeated[uid] = None
            first += len(part)
        self._refuse([entry for entry in self.entries if entry not in found], "unknown uids")
        self._refuse(list(repeated), "uids of several rows")
        return found

    def _refuse(self, entries: list[str], problem: str) -> None:
        if entries:
            named = ", ".join(map(repr, entries[:3])) + (f" and {len(entries) - 3} more" if len(entries) > 3 else "")
            kind = "a uid" if self.by_uid else "a row number"
            raise ValueError(f"{self.path} names {named}: {problem}; expected {kind} of a measured pair on each line")


def read_landmarks(path: Path | str, by_uid: bool | None = None) -> LandmarkList:
    """Landmarks from a text file: a row number (from 0) or a uid on each line.

    Empty lines and lines that begin with ``#`` are passed over. A first line ``row`` or ``uid`` says what the others
    are, as ``by_uid`` does; without either they are uids unless all of them are numbers.

    Args:
        by_uid: True where the lines are uids, False where they are row numbers; None where the file tells.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming an entry that comes twice or is no row number, if there is none, or if the first line says
            otherwise than ``by_uid``.
    """
    path = Path(path)
    lines = (line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines())
    entries = [line for line in lines if line and not line.startswith("#")]
    if entries and entries[0] in HEADERS:
        header = entries.pop(0)
        if by_uid not in (None, HEADERS[header]):
            raise ValueError(f"{path} says {header!r} in its first line: expected the option for these")
        by_uid = HEADERS[header]
    if by_uid is None and not all(map(_is_row_number, entries)):
        by_uid = True
    if not entries:
        raise ValueError(f"{path} names no landmarks: expected a row number or a uid on each line")
    if not by_uid:
        unlike = [entry for entry in entries if not _is_row_number(entry)]
        if unlike:
            raise ValueError(f"{path} names row {unlike[0]!r}: expected a number from 0 on, or that they are uids")
    entry, count = Counter(entries).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{path} names {entry!r} twice: expected each landmark once")
    return LandmarkList(path=path, by_uid=by_uid, entries=tuple(entries))


def _is_row_number(entry: str) -> bool:
    """Plain digits; a leading zero belongs to a key such as 000030017."""
    return re.fullmatch(r"0|[1-9][0-9]{0,17}", entry) is not None
