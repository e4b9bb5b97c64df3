"""Pairs of which embeddings are kept: a store as it lies, and a source that was embedded for a study."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.alignment.stores import CAPTION_COLUMNS, UID_COLUMN, embedded_pictures
from explorer.core.provenance import hash_json
from explorer.embeddings.store import EmbeddingStore, receipt_path
from explorer.pairs.pair_import import square_thumbnail
from explorer.pairs.poison_flags import PoisonFields
from explorer.pairs.quarantine import UnusableError
from explorer.pairs.sources.base import PairSource, Record, first_of
from explorer.pairs.sources.decoding import Limits, decode_image
from explorer.studies.arm_pairs import THUMBNAIL_SIDE, TRAIN, ArmPairs, concepts_in, squared

if TYPE_CHECKING:
    import pandas
    import torch

    from explorer.embeddings.universal_extractor import UniversalExtractor

NOT_RECORDED = "not recorded"


class StoredPairs(ArmPairs):
    """An embedding store: ours, clip-retrieval's or LAION's."""

    kind = "store"

    def __init__(
        self,
        store: EmbeddingStore,
        extractor: UniversalExtractor,
        names: tuple[str, ...],
        poison: PoisonFields | None = None,
    ) -> None:
        """``names`` are looked for in the captions; ``poison`` names fields of the metadata.

        Raises:
            ValueError: if another extractor made the store, a uid comes twice, or what ``poison`` names is not there
                or cannot be read.
        """
        self._store = store
        _check_extractor(store, extractor)
        made = store.manifest
        self.extractor = NOT_RECORDED if made is None else made["config"]["extractor"]["name"]
        self.pictures = embedded_pictures(store)
        self.data_hash = _files_hash(store) if made is None else hash_json(made["files"])
        self.table = _table(store, names, poison)
        known = {} if made is None else {"records": made["counts"]["records"], "quarantined": made["quarantined"]}
        without = int(self.table["caption"].isna().sum())
        self.counts = {"pairs": len(store), **known} | ({"without_caption": without} if without else {})

    @property
    def told(self) -> str:
        """What was set aside, and what was taken for granted where the store does not say it, in a sentence."""
        said, made = [f"{len(self)} embedded pairs"], self._store.manifest
        for what in ("quarantined", "left_out") if made is not None else ():
            if made.get(what):
                listed = ", ".join(f"{count} {name}" for name, count in made[what].items())
                said.append(f"{what.replace('_', ' ')}: {listed}")
        if made is not None and made["counts"].get("cut_captions"):
            said.append(f"{made['counts']['cut_captions']} captions are longer than the extractor reads")
        if made is None:
            said.append("which extractor made them is not recorded, and taken to be the study's")
        if UID_COLUMN not in self._store.metadata_columns():
            said.append("they have no uids, and are called by their rows")
        if "without_caption" in self.counts:
            said.append(f"{self.counts['without_caption']} have no caption, and no concepts therefore")
        if self._store.thumbnails is None:
            said.append("no pictures are kept of them")
        return "; ".join(said)

    def features(self) -> tuple[torch.Tensor, torch.Tensor]:
        """As they are stored, brought to unit length."""
        return self._store.image.read(), self._store.text.read()

    def thumbnails(self, rows: np.ndarray, size: int = THUMBNAIL_SIDE) -> np.ndarray:
        """As they are stored, or resized from that."""
        if self._store.thumbnails is None:
            raise ValueError(
                f"{self._store.folder} keeps no pictures: expected thumbnails, which `explorer embed --thumbnails "
                f"{THUMBNAIL_SIDE}` makes"
            )
        return squared(self._store.thumbnails.read(np.asarray(rows)), size)

    def read_images(self, rows: np.ndarray, size: int | None = None) -> np.ndarray:
        """Refused: a store does not say where its pictures lie."""
        raise ValueError(f"{self._store.folder} holds embeddings: expected the source itself where pictures are needed")


class SourcePairs(StoredPairs):
    """A source, with the store that was made of it."""

    def __init__(
        self, source: PairSource, store: EmbeddingStore, extractor: UniversalExtractor, names: tuple[str, ...]
    ) -> None:
        """``store`` was just extracted from ``source``."""
        super().__init__(store, extractor, names)
        self._source, self.kind = source, source.kind
        self.data_hash = store.manifest["data_hash"]
        # As an import does with pairs whose source names no split.
        self.table["split"] = self.table["split"].fillna(TRAIN)

    def read_images(self, rows: np.ndarray, size: int | None = None) -> np.ndarray:
        """From the source: of each partition that holds some of ``rows`` its records are read once.

        Raises:
            ValueError: without a size, if the source changed since it was embedded, or naming a pair whose picture is
                not there, or not readable, any more.
        """
        if size is None:
            raise ValueError("size is None: pictures of a source have many, expected the pixels a side to square to")
        if self._source.fingerprint() != self.data_hash:
            raise ValueError(f"the source of {self._store.folder} changed since it was embedded: expected it as it was")
        rows = np.asarray(rows)
        images = np.empty((len(rows), size, size, 3), np.uint8)
        # A record that was set aside may have a kept pair's uid.
        pairs = list(self.table[["uid", "caption"]].iloc[rows].itertuples(index=False, name=None))
        positions: dict[tuple[str, str], list[int]] = {}
        for position, pair in enumerate(pairs):
            positions.setdefault(pair, []).append(position)
        for pair, pixels in self._read(rows, positions, size):
            images[positions.pop(pair)] = pixels
        for uid, caption in positions:
            raise ValueError(
                f"the source of {self._store.folder} has no readable picture of pair {uid!r}, {caption!r}, any more "
                f"({len(positions)} such): expected it as it was when it was embedded"
            )
        return images

    def _read(
        self, rows: np.ndarray, wanted: dict[tuple[str, str], Any], size: int
    ) -> Iterator[tuple[tuple[str, str], np.ndarray]]:
        made = self._store.manifest
        receipts = (receipt_path(self._store.folder, number) for number in range(made["counts"]["partitions"]))
        ends = np.cumsum([json.loads(path.read_text(encoding="utf-8"))["pairs"] for path in receipts])
        settings = made["config"]["settings"]
        records_each, limits = settings["partition_size"], Limits(**settings["limits"])
        for number in np.unique(np.searchsorted(ends, rows, side="right")).tolist():
            for record in islice(self._source.records(number * records_each), records_each):
                pair = (record.uid, record.caption)
                if pair in wanted and (pixels := _usable(record, limits)) is not None:
                    yield pair, square_thumbnail(pixels, size)


def _usable(record: Record, limits: Limits) -> np.ndarray | None:
    """The record's pixels; None for one that was set aside, before the pair that has its uid."""
    try:
        return None if record.problem is not None else decode_image(record.image, limits).pixels
    except UnusableError:
        return None


def _check_extractor(store: EmbeddingStore, extractor: UniversalExtractor) -> None:
    """Refuse a store of other features than the study's extractor makes."""
    if store.manifest is not None:
        made = store.manifest["config"]["extractor"]
        if made["identity"] != extractor.identity:
            raise ValueError(
                f"{store.folder} was embedded with {made['name']} ({made['identity'][:12]}…), the study's extractor is "
                f"{extractor.name} ({extractor.identity[:12]}…): expected the same"
            )
        return
    if (width := extractor.encode_texts(["a"]).shape[1]) != store.text.shape[1]:
        raise ValueError(
            f"{store.folder} holds embeddings of {store.text.shape[1]} numbers, those of the study's extractor "
            f"{extractor.name} have {width}: expected the same"
        )


def _files_hash(store: EmbeddingStore) -> str:
    """SHA-256 over name, size and time of change of every file of a store that has no manifest."""
    files = sorted([*store.folder.rglob("*.npy"), *store.metadata_files])
    facts = [(path, path.stat()) for path in files]
    return hash_json([[path.relative_to(store.folder).as_posix(), found.st_size, found.st_mtime_ns]
                      for path, found in facts])  # fmt: skip


def _table(store: EmbeddingStore, names: tuple[str, ...], poison: PoisonFields | None) -> pandas.DataFrame:
    import pandas

    rows, columns = len(store), store.metadata_columns()
    nothing = pandas.Series([None] * rows, dtype="str")
    metadata = store.metadata() if columns else pandas.DataFrame(index=range(rows))
    numbers = pandas.Series(range(rows)).astype("str")
    uids = metadata[UID_COLUMN].astype("str").fillna(numbers) if UID_COLUMN in columns else numbers
    if len(repeated := uids[uids.duplicated()]):
        raise ValueError(f"{store.folder}: uid {repeated.iloc[0]!r} appears more than once")
    caption = first_of(CAPTION_COLUMNS, columns)
    captions = nothing if caption is None else metadata[caption].astype("str")
    flags, concepts, targets = _flags(store, metadata, poison, uids)
    return pandas.DataFrame(
        {
            "uid": uids,
            "caption": captions,
            "concepts": concepts_in(captions, names),
            "image_index": np.arange(rows),
            "is_poison": pandas.array(flags, dtype="boolean"),
            "poisoned_concept": pandas.array(concepts, dtype="str"),
            "target_concept": pandas.array(targets, dtype="str"),
            "split": metadata["split"].astype("str") if "split" in columns else nothing,
        }
    )


def _flags(
    store: EmbeddingStore, metadata: pandas.DataFrame, poison: PoisonFields | None, uids: pandas.Series
) -> tuple[list[Any], list[Any], list[Any]]:
    """Flag, poisoned concept and target of every pair, by fields of our stores' JSON or by columns of others."""
    if poison is None and store.manifest is not None:
        poison = PoisonFields(**store.manifest["config"]["settings"].get("poison_fields", {}))
    if poison is None or not poison.named() or not len(metadata):
        return [None] * len(metadata), [None] * len(metadata), [None] * len(metadata)
    if store.manifest is not None:
        said = [json.loads(fields) for fields in metadata["metadata"]]
    else:
        said = metadata[[name for name in poison.named().values() if name in metadata]].to_dict("records")
    poison.check_present(said)
    read = []
    for uid, fields in zip(uids, said, strict=True):
        try:
            read.append(poison.read(fields))
        except UnusableError as problem:
            raise ValueError(f"{store.folder}, pair {uid!r}: {problem.detail}") from problem
    return tuple(map(list, zip(*read, strict=True)))
