"""What lies in a folder of pictures, every file told: pictures, tables, files beside pictures, what is set aside."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from explorer.pairs.quarantine import Reason, UnusableError
from explorer.pairs.sources.base import CAPTION_EXTENSIONS, printable
from explorer.pairs.sources.caption_tables import TABLE_EXTENSIONS
from explorer.pairs.sources.regular_files import extension, is_picture, walk

_TEXT_EXTENSIONS = (*CAPTION_EXTENSIONS, "json", *TABLE_EXTENSIONS, "xml", "yaml", "yml", "xls", "xlsx", "ods", "tags")
"""Files of these kinds may hold captions."""
_ABOUT = ("readme", "license", "licence", "notice", "changelog")


@dataclass(kw_only=True)
class FolderListing:
    """Paths relative to the folder, sorted; together all its files, but for hidden ones that are no pictures."""

    images: list[str]
    tables: list[str] = field(default_factory=list)
    beside: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Per picture, the files of its name that may hold its caption; links among them."""
    linked: set[str] = field(default_factory=set)
    """Those of ``beside`` that are links, which are not followed."""
    unknown_beside: dict[str, str] = field(default_factory=dict)
    """Per picture, a file of its name that is of no known kind."""
    aside: dict[str, UnusableError] = field(default_factory=dict)
    """What is not read, and why."""

    @staticmethod
    def of(root: Path) -> FolderListing:
        """List ``root``.

        Raises:
            OSError: if it cannot be listed.
        """
        found, aside = walk(root)
        images = [name for name in found if is_picture(root, name)]
        listing = FolderListing(images=images, aside=aside)
        links = [name for name, problem in aside.items() if problem.reason == Reason.LINK]
        listing._sort(sorted(set(found) - set(images)), links)
        return listing

    def carriers(self) -> Iterable[str]:
        """Files set aside that may hold captions all the same."""
        yield from self.unknown_beside.values()
        for name in (*self.tables, *self.aside):
            stem = os.path.splitext(name)[0].rpartition("/")[2].casefold()
            if extension(name) in _TEXT_EXTENSIONS and not stem.startswith(_ABOUT):
                yield name

    def has_linked_table(self) -> bool:
        """Whether a table is a link, whose captions are therefore missing."""
        links = (name for name, problem in self.aside.items() if problem.reason == Reason.LINK)
        return any(extension(name) in TABLE_EXTENSIONS for name in links)

    def _sort(self, others: list[str], links: list[str]) -> None:
        owners: dict[str, list[str]] = defaultdict(list)
        for name in self.images:
            for stem in {os.path.splitext(name)[0], name}:  # both 1.txt and 1.jpg.txt are in use
                owners[composed(stem)].append(name)
        for name in [*others, *links]:
            pictures = owners.get(composed(os.path.splitext(name)[0]), [])
            kind = extension(name)
            if pictures and kind in (*CAPTION_EXTENSIONS, "json"):
                for picture in pictures:
                    self.beside[picture].append(name)
                if self.aside.pop(name, None) is not None:
                    self.linked.add(name)
            elif name in self.aside:
                continue
            elif kind in TABLE_EXTENSIONS:
                self.tables.append(name)
            elif kind in CAPTION_EXTENSIONS:
                self.aside[name] = UnusableError(Reason.NO_IMAGE, "expected a picture of this name beside it")
            else:
                self.unknown_beside |= dict.fromkeys(pictures, printable(name))
                self.aside[name] = UnusableError(Reason.UNKNOWN_FILE, "expected a picture, a table or a caption's file")


def composed(name: str) -> str:
    """``name`` with composed letters (NFC), as one system writes what another takes apart."""
    return unicodedata.normalize("NFC", name)
