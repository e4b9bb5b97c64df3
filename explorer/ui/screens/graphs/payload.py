"""The sets whose graphs can be drawn, and one set's files for programs and exports.

This is all that the screen asks of a study: which files there are, their content, and their addresses.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import quote

from explorer.alignment.graph_columns import Columns
from explorer.alignment.payload_formats import COLUMNS_NAME, THUMBNAILS_NAME
from explorer.alignment.payload_formats import GRAPHS as FORMAT
from explorer.core.provenance import ManifestError
from explorer.studies.results import GRAPHS
from explorer.ui.shell.open_study import STUDY_ROUTE, OpenStudy

SIDES = ("text", "image")
KINDS = ("benign", "poisoned", "unrecorded")
FLAGS = {"benign": False, "poisoned": True, "unrecorded": None}
STAMP_LETTERS = 8


@dataclass(frozen=True, kw_only=True)
class DrawnSet:
    """One set that the screen draws."""

    header: dict[str, Any]
    """Content of its ``graphs.json``."""
    columns: Columns

    @property
    def name(self) -> str:
        """Of the set."""
        return self.header["set"]["name"]

    @cached_property
    def uids(self) -> list[str]:
        """Of the drawn pairs."""
        return self.columns.texts("uid")

    @cached_property
    def captions(self) -> list[str]:
        """Of the drawn pairs; empty where there is none."""
        return self.columns.texts("caption")

    def row(self, uid: str) -> int:
        """Row of a drawn pair.

        Raises:
            ValueError: if it is not among them.
        """
        if uid not in self.uids:
            raise ValueError(f"pair {uid!r} is not drawn: expected one of the {len(self.uids)} pairs of {self.name}")
        return self.uids.index(uid)

    def concept(self, column: str, row: int) -> str | None:
        """The concept in one of the columns of concepts; None for none."""
        number = int(self.columns[column][row])
        return None if number < 0 else self.header["concepts"][number]

    def concepts(self, row: int) -> list[str]:
        """Every concept the caption mentions."""
        ends = self.columns["concepts_ends"]
        first = int(ends[row - 1]) if row else 0
        return [self.header["concepts"][number] for number in self.columns["concepts"][first : ends[row]]]

    def flag(self, row: int) -> bool | None:
        """Whether the pair is poison; None where nobody recorded it."""
        return FLAGS[KINDS[self.columns["kind"][row]]]


def graphs_payload(opened: OpenStudy) -> dict[str, Any]:
    """Every set that can be drawn, those of which no poison is recorded first, the most poisoned last: its name, what
    is known of its poison, and where its files are.

    Raises:
        ManifestError: if there is none, or a file is missing, changed, or not in this version's format.
    """
    folders = _folders(opened)
    sets = [_describe(opened, folder) for folder in folders]
    count = "poisoned_concept_count"
    return {"sets": sorted(sets, key=lambda entry: (entry[count] is not None, entry[count] or 0, entry["name"]))}


def drawn_set(opened: OpenStudy, name: str, stamp: str | None = None) -> DrawnSet:
    """The files of the set called ``name``; with "", of the one that the screen opens with.

    Args:
        stamp: the set's, as the payload gives it: a caller who knows another one means other pairs.

    Raises:
        ManifestError: as :func:`graphs_payload`.
        ValueError: if there is no such set, or it has another stamp.
    """
    sets = graphs_payload(opened)["sets"]
    found = next((entry for entry in sets if entry["name"] == name), None if name else sets[-1])
    if found is None:
        raise ValueError(f"set is {name!r}: expected one of {', '.join(entry['name'] for entry in sets)}")
    if stamp not in (None, found["stamp"]):
        raise ValueError(f"the graphs of {found['name']} have been drawn again since: load the page again")
    folder = found["folder"]
    return opened.remember(
        ("graphs", folder),
        found["stamp"],
        lambda: DrawnSet(
            header=_header(opened, folder),
            columns=Columns(opened.result_file(GRAPHS, f"{folder}/{COLUMNS_NAME}"), _header(opened, folder)["columns"]),
        ),
    )


def _folders(opened: OpenStudy) -> list[str]:
    ending = f"/{FORMAT.name}"
    names = [name for name in opened.result_names(GRAPHS) if name.endswith(ending)]
    if not names:
        raise ManifestError(f"No graphs have been drawn yet. Run `{opened.result_command(GRAPHS)}`.")
    return [name.removesuffix(ending) for name in names]


def _header(opened: OpenStudy, folder: str) -> dict[str, Any]:
    return FORMAT.checked(
        opened.result_json(GRAPHS, f"{folder}/{FORMAT.name}"), f"Run `{opened.result_command(GRAPHS)}`."
    )


def _describe(opened: OpenStudy, folder: str) -> dict[str, Any]:
    from explorer.ui.shell.pair_pictures import why_no_pictures  # heavy

    header = _header(opened, folder)
    columns = opened.result_url(GRAPHS, f"{folder}/{COLUMNS_NAME}")
    return {
        **header["set"],
        "folder": folder,
        "stamp": columns.rpartition("=")[2][:STAMP_LETTERS],
        "header_url": opened.result_url(GRAPHS, f"{folder}/{FORMAT.name}"),
        "columns_url": columns,
        "pictures_url": f"{STUDY_ROUTE}/{opened.slug}/thumbnails/{quote(folder, safe='')}",
        "no_pictures": why_no_pictures(opened, folder),
        "thumbnails_url": header["thumbnails"] and opened.result_url(GRAPHS, f"{folder}/{THUMBNAILS_NAME}"),
    }
