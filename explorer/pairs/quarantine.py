"""Records of a user's data that cannot be used: kept by name, with the reason, and never fatal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from explorer.core.provenance import replacing

QUARANTINE_NAME = "quarantine.parquet"


class Reason(StrEnum):
    """Why a record cannot be used."""

    NO_IMAGE = "no image"
    UNDECODABLE_IMAGE = "undecodable image"
    TRUNCATED_IMAGE = "truncated image"
    SMALL_IMAGE = "image too small"
    LARGE_IMAGE = "image too large"
    UNDEFINED_RANGE = "samples without a range"
    SEVERAL_IMAGES = "several images"
    NO_CAPTION = "no caption"
    DIFFERING_CAPTIONS = "differing captions"
    EMPTY_CAPTION = "empty caption"
    LONG_CAPTION = "caption too long"
    NOT_UTF8 = "text is not UTF-8"
    UNREADABLE_METADATA = "unreadable metadata"
    NO_UID = "no uid"
    DUPLICATE_UID = "duplicate uid"
    OUTSIDE_FOLDER = "path outside the folder"
    UNREADABLE_SHARD = "unreadable shard"
    UNREADABLE_FOLDER = "unreadable folder"
    LINK = "link"
    HIDDEN = "hidden file"
    NOT_REGULAR = "no regular file"
    UNKNOWN_FILE = "file of no known kind"
    OTHER_SPLIT = "another split"


class UnusableError(Exception):
    """Raised where a record turns out to be unusable; caught where records are consumed."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)  # as it is called again where it reaches another process
        self.reason = reason
        """The kind of problem, by which records are counted."""
        self.detail = detail
        """What was found, in words."""

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


@dataclass(frozen=True, kw_only=True)
class QuarantinedRecord:
    """One record that was set aside."""

    uid: str
    """The uid the record would have had."""
    place: str
    """Where it lies, as in ``00003.tar:000030017``."""
    reason: str
    """One of :class:`Reason`."""
    detail: str
    """What was found."""


def count_reasons(records: Iterable[QuarantinedRecord]) -> dict[str, int]:
    """How many records each reason set aside; reasons that did not occur are left out."""
    return dict(sorted(Counter(str(record.reason) for record in records).items()))


def write_quarantine(path: Path, records: list[QuarantinedRecord]) -> None:
    """Write a parquet table with the columns uid, place, reason and detail, by atomic rename; none gives no rows."""
    import pyarrow
    from pyarrow import parquet

    schema = pyarrow.schema([(name, pyarrow.string()) for name in ("uid", "place", "reason", "detail")])
    rows = [{**asdict(record), "reason": str(record.reason)} for record in records]
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, alone=True) as temporary:
        parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), temporary)


def read_quarantine(path: Path) -> list[QuarantinedRecord]:
    """The records that :func:`write_quarantine` wrote."""
    from pyarrow import parquet

    return [QuarantinedRecord(**row) for row in parquet.read_table(path).to_pylist()]
