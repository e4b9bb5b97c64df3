"""What an extraction leaves on disk: its plan, finished partitions with a receipt each, and last the manifest.

A receipt holds the hashes of its partition's files and is written after them: a partition that has one is whole.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.core.provenance import MANIFEST_NAME, hash_file, write_json, write_manifest
from explorer.embeddings.store import KIND, PLAN_NAME, partition_paths, receipt_path, write_partition
from explorer.pairs.counts import PairCounts
from explorer.pairs.quarantine import QuarantinedRecord, count_reasons, write_quarantine
from explorer.pairs.sources.base import Record, printable

if TYPE_CHECKING:
    import pyarrow


@dataclass(frozen=True, kw_only=True)
class Partition:
    """The content of one partition, before it is written."""

    records: int
    """Source records, used or not."""
    image: np.ndarray
    """float16 ``[pairs, d]``."""
    text: np.ndarray
    """float16 ``[pairs, d]``."""
    thumbnails: np.ndarray | None
    """uint8 ``[pairs, side, side, 3]``; None where none are kept."""
    kept: list[Record]
    """Usable records, without their pictures, in row order."""
    quarantined: list[QuarantinedRecord]
    """The others."""
    used: PairCounts
    """Where captions came from, how pictures were converted."""
    cut_captions: int
    """Pairs whose caption lost its end, because the extractor's context is too short for it."""


class BegunOtherwiseError(ValueError):
    """A folder holds, whole or in part, what was extracted from something else or otherwise."""

    def __init__(self, folder: Path, what: str, before: Any, now: Any) -> None:
        super().__init__(
            f"{folder} was begun with {what} {before!r}, now it is {now!r}: expected the same, or a new folder"
        )
        self.what = what
        """That differs, as ``source fingerprint``."""


def begin_extraction(folder: Path, plan: dict[str, Any]) -> bool:
    """Write the plan, or check that the folder was begun with the same one; False where it is finished already.

    Raises:
        BegunOtherwiseError: naming the first thing that differs.
        ValueError: if the folder holds anything else.
    """
    path = folder / PLAN_NAME
    if not path.is_file():
        if folder.exists() and any(not found.name.startswith(".") for found in folder.iterdir()):
            raise ValueError(f"{folder} holds other things: expected a new folder or an extraction begun before")
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, plan)
        return True
    begun = json.loads(path.read_text(encoding="utf-8"))
    for part, wanted in plan.items():
        before = begun.get(part, {})
        differing = [name for name in {**wanted, **before} if before.get(name) != wanted.get(name)]
        if differing:
            name = differing[0]
            raise BegunOtherwiseError(folder, f"{part} {name}", before.get(name), wanted.get(name))
    return not (folder / MANIFEST_NAME).is_file()


def finished_partitions(folder: Path) -> tuple[list[dict[str, Any]], set[str]]:
    """Receipts of the partitions that are whole, from the first on, and the uids of their pairs."""
    receipts: list[dict[str, Any]] = []
    seen: set[str] = set()
    while (receipt := _whole(folder, receipt_path(folder, len(receipts)))) is not None:
        # A partition that does not match its receipt is made again, and those after it.
        seen.update(_uids(folder, len(receipts)))
        receipts.append(receipt)
    return receipts, seen


def pending_path(folder: Path, number: int) -> Path:
    """Where the receipt of a partition lies that was made without knowing the uids of those before it."""
    return receipt_path(folder, number).with_name(f"pending_{number:04d}.json")


def accept_partition(folder: Path, number: int, seen: set[str]) -> dict[str, Any] | None:
    """The receipt of a pending partition that is whole and none of whose uids is in ``seen``, to which they are added.

    None, and nothing pending any more, where it must be made again: it was made as if nothing had been seen.
    """
    path = pending_path(folder, number)
    receipt = _whole(folder, path)
    if receipt is None or not seen.isdisjoint(uids := _uids(folder, number)):
        path.unlink(missing_ok=True)
        return None
    seen.update(uids)
    path.replace(receipt_path(folder, number))
    return receipt


def _whole(folder: Path, receipt: Path) -> dict[str, Any] | None:
    """A receipt whose partition's files are as it says."""
    if not receipt.is_file():
        return None
    content = json.loads(receipt.read_text(encoding="utf-8"))
    files = {folder / name: expected for name, expected in content["files"].items()}
    return content if all(file.is_file() and hash_file(file) == files[file] for file in files) else None


def _uids(folder: Path, number: int) -> list[str]:
    from pyarrow import parquet

    return parquet.read_table(partition_paths(folder, number)["metadata"], columns=["uid"])["uid"].to_pylist()


def finish_partition(folder: Path, number: int, partition: Partition, *, pending: bool = False) -> dict[str, Any]:
    """Write a partition and, last, its receipt, which :func:`accept_partition` looks at again if it is ``pending``."""
    quarantine = folder / "quarantine" / f"quarantine_{number:04d}.parquet"
    write_quarantine(quarantine, partition.quarantined)
    files = write_partition(
        folder, number, image=partition.image, text=partition.text, metadata=_metadata_table(partition.kept),
        thumbnails=partition.thumbnails,
    )  # fmt: skip
    receipt = {
        "records": partition.records,
        "pairs": len(partition.kept),
        "cut_captions": partition.cut_captions,
        "quarantined": count_reasons(partition.quarantined),
        **partition.used.as_dict(),
        "files": {**files, quarantine.relative_to(folder).as_posix(): hash_file(quarantine)},
    }
    path = (pending_path if pending else receipt_path)(folder, number)
    path.parent.mkdir(exist_ok=True)
    write_json(path, receipt)
    return receipt


def finish_extraction(folder: Path, plan: dict[str, Any], receipts: list[dict[str, Any]]) -> None:
    """The manifest vouches for the receipts, and they for the partitions' files."""
    quarantined: Counter[str] = Counter()
    used = PairCounts()
    for receipt in receipts:
        quarantined.update(receipt["quarantined"])
        used.merge(receipt)
    counts = {
        "partitions": len(receipts),
        "records": sum(receipt["records"] for receipt in receipts),
        "pairs": sum(receipt["pairs"] for receipt in receipts),
        "cut_captions": sum(receipt.get("cut_captions", 0) for receipt in receipts),
    }
    listed = [receipt_path(folder, number).relative_to(folder).as_posix() for number in range(len(receipts))]
    write_manifest(
        folder,
        kind=KIND,
        config=plan,
        seed=None,
        data_hash=plan["source"]["fingerprint"],
        files=[PLAN_NAME, *listed],
        counts=counts,
        quarantined=dict(sorted(quarantined.items())),
        **used.as_dict(),
        left_out=plan["source"]["left_out"],
    )


def _metadata_table(kept: list[Record]) -> pyarrow.Table:
    """One schema for every partition: what else a source says stays together, as JSON."""
    import pyarrow

    columns = {
        "uid": [record.uid for record in kept],
        "image_path": [record.place for record in kept],
        "caption": [record.caption for record in kept],
        "split": [record.split or None for record in kept],
        "url": [_url(record.metadata) for record in kept],
        "metadata": [json.dumps(record.metadata, sort_keys=True) for record in kept],
    }
    return pyarrow.table({name: pyarrow.array(values, pyarrow.string()) for name, values in columns.items()})


def _url(metadata: dict[str, Any]) -> str | None:
    url = metadata.get("url")
    return printable(url) if isinstance(url, str) else None
