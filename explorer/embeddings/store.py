"""Row-aligned embeddings on disk in clip-retrieval's layout, in which LAION publishes its own.

``img_emb/img_emb_0000.npy``, ``text_emb/text_emb_0000.npy`` and ``metadata/metadata_0000.parquet`` hold the same pairs
in the same order (https://github.com/rom1504/clip-retrieval). Existing folders are read as they are, memory-mapped;
nothing is computed again. The metadata may be missing: AD needs none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from explorer.core.bounded_files import parse_json
from explorer.core.provenance import MANIFEST_NAME, ManifestError, hash_file, read_manifest, replacing
from explorer.embeddings.embedding_rows import EmbeddingRows, memory_mapped
from explorer.embeddings.thumbnails import ThumbnailRows
from explorer.pairs.sources.base import is_address

if TYPE_CHECKING:
    import pandas
    import pyarrow
    from upath import UPath

KIND = "embedding-store"
PLAN_NAME = "extraction.json"
"""What an extraction was begun with; without a manifest beside it, the store is unfinished."""
FOLDERS = {
    "image": (("img_emb", "images"), r"img_emb_(\d+)\.npy"),
    "text": (("text_emb", "texts"), r"text_emb_(\d+)\.npy"),
    "metadata": (("metadata", "*-metadata"), r"metadata_(\d+)(?:\.snappy)?\.parquet"),
    "thumbnails": (("thumbnails",), r"thumbnails_(\d+)\.npy"),
}
"""Part -> names of its folder (LAION-400M and LAION-5B have their own) and of its files."""
REQUIRED = ("image", "text")
"""The parts that every store has."""
DTYPES = (np.float16, np.float32)
STRINGS_AT_ONCE = 2**15


@dataclass(frozen=True, kw_only=True, eq=False)
class EmbeddingStore:
    """Image and text embeddings of N pairs, with their metadata."""

    folder: Path
    """Where the three folders lie."""
    image: EmbeddingRows
    """``[N, d]`` image embeddings."""
    text: EmbeddingRows
    """``[N, d]`` text embeddings; row i belongs to row i of ``image``."""
    metadata_files: tuple[Path, ...]
    """The metadata's partitions, in order; empty for a store without metadata."""
    thumbnails: ThumbnailRows | None
    """uint8 ``[N, side, side, 3]`` pictures of the pairs; None in a store that keeps none."""
    manifest: dict[str, Any] | None
    """How the store was made; None for one that was not made here."""

    def __len__(self) -> int:
        return len(self.image)

    def metadata(self) -> pandas.DataFrame:
        """The metadata of all N pairs, in row order.

        Raises:
            ValueError: if the store has none.
        """
        import pandas

        if not self.metadata_files:
            raise ValueError(f"{self.folder} has no metadata: expected {', '.join(FOLDERS['metadata'][0])} in it")
        return pandas.concat([pandas.read_parquet(opened(path)) for path in self.metadata_files], ignore_index=True)

    def metadata_columns(self) -> list[str]:
        """Names of the metadata's columns, by its first file; none without metadata."""
        from pyarrow import parquet

        if not self.metadata_files:
            return []
        return parquet.read_schema(opened(self.metadata_files[0])).names

    def column(self, name: str) -> Iterator[list[Any]]:
        """One column of the metadata, a partition at a time.

        Raises:
            ValueError: naming the file that lacks it.
        """
        from pyarrow import parquet

        if not self.metadata_files:
            raise ValueError(f"{self.folder} has no metadata: expected {name!r} in it")
        for path in self.metadata_files:
            names = parquet.read_schema(opened(path)).names
            if name not in names:
                raise ValueError(f"{path} has the columns {', '.join(names)}: expected {name!r}, too")
            yield parquet.read_table(opened(path), columns=[name])[name].to_pylist()

    def strings(self, name: str, first: int = 0) -> Iterator[pyarrow.Array]:
        """One column of the metadata as text from row ``first`` on, some ten thousand rows at a time.

        Raises:
            ValueError: naming the file that lacks it.
        """
        from pyarrow import parquet

        for path in self.metadata_files:
            with parquet.ParquetFile(opened(path)) as file:
                rows = file.metadata.num_rows
                if first >= rows:
                    first -= rows
                    continue
                if name not in file.schema_arrow.names:
                    raise ValueError(f"{path} has the columns {', '.join(file.schema_arrow.names)}: expected {name!r}")
                for batch in file.iter_batches(STRINGS_AT_ONCE, columns=[name], use_threads=False):
                    column = batch.column(0)
                    if first < len(column):
                        yield _as_strings(column[first:])
                    first = max(first - len(column), 0)

    @staticmethod
    def open(folder: Path | str) -> EmbeddingStore:
        """Open a store of ours, of clip-retrieval's, or of LAION's; embeddings stay where they lie until read.

        Args:
            folder: its path, or an address that fsspec opens (``s3://bucket/store``).

        Raises:
            FileNotFoundError: if ``folder`` lacks image or text embeddings.
            ValueError: if the store is unfinished, or naming the partition whose parts do not match.
        """
        folder = place_of(folder)
        manifest = None
        if (folder / MANIFEST_NAME).is_file():
            manifest = _manifest(folder)
        elif (folder / PLAN_NAME).is_file():
            raise ManifestError(f"{folder} is unfinished: run the same extraction again to complete it")
        files = {part: _partition_files(folder, part) for part in FOLDERS}
        numbers = sorted(set().union(*files.values()))
        for part, found in files.items():
            if part not in REQUIRED and not found:
                continue
            missing = [number for number in numbers if number not in found]
            if missing:
                raise ValueError(f"{folder}: partition {missing[0]} has no {part}: expected it as in the others")
        arrays = {part: [_memory_mapped(files[part][number]) for number in numbers] for part in REQUIRED}
        _check_rows(folder, numbers, arrays, files["metadata"])
        return EmbeddingStore(
            folder=folder,
            image=EmbeddingRows(arrays["image"]),
            text=EmbeddingRows(arrays["text"]),
            metadata_files=tuple(files["metadata"][number] for number in numbers if files["metadata"]),
            thumbnails=_thumbnails(numbers, files["thumbnails"], arrays["image"]),
            manifest=manifest,
        )


def place_of(location: Path | str) -> Path | UPath:
    """What an address names, with a path's methods, or a path of this machine."""
    if not is_address(location):
        return Path(location)
    from upath import UPath

    return UPath(location)


def opened(path: Path | UPath) -> Path | BinaryIO:
    """As pyarrow takes it."""
    return path if isinstance(path, Path) else path.open("rb")


def _manifest(folder: Path | UPath) -> dict[str, Any]:
    if isinstance(folder, Path):
        return read_manifest(folder, kind=KIND)
    manifest = parse_json((folder / MANIFEST_NAME).read_bytes())
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
        raise ManifestError(f"{folder / MANIFEST_NAME} is of another kind: expected {KIND!r}")
    return manifest


def is_store(location: Path | str) -> bool:
    """Whether a folder holds image embeddings, or an extraction that was begun there."""
    folder = place_of(location)
    names, pattern = FOLDERS["image"]
    found = (path.name for name in names for path in (folder / name).glob("*.npy"))
    return (folder / PLAN_NAME).is_file() or any(re.fullmatch(pattern, name) for name in found)


def partition_paths(folder: Path, number: int) -> dict[str, Path]:
    """Where the parts of a partition that is written here lie."""
    return {
        "image": folder / "img_emb" / f"img_emb_{number:04d}.npy",
        "text": folder / "text_emb" / f"text_emb_{number:04d}.npy",
        "metadata": folder / "metadata" / f"metadata_{number:04d}.parquet",
        "thumbnails": folder / "thumbnails" / f"thumbnails_{number:04d}.npy",
    }


def receipt_path(folder: Path, number: int) -> Path:
    """Where the receipt of a finished partition lies: its counts and the hashes of its files."""
    return folder / "receipts" / f"receipt_{number:04d}.json"


def write_partition(
    folder: Path,
    number: int,
    *,
    image: np.ndarray,
    text: np.ndarray,
    metadata: pyarrow.Table,
    thumbnails: np.ndarray | None = None,
) -> dict[str, str]:
    """Write one partition, each file by atomic rename; returns their SHA-256 by path relative to ``folder``.

    Args:
        image: float16 ``[n, d]``; row i belongs to row i of ``text``, of ``metadata`` and of ``thumbnails``.
        thumbnails: uint8 ``[n, side, side, 3]``; None keeps none.

    Raises:
        ValueError: if they do not have the same number of rows.
    """
    from pyarrow import parquet

    arrays = {"image": image, "text": text} | ({} if thumbnails is None else {"thumbnails": thumbnails})
    rows = {part: len(array) for part, array in arrays.items()} | {"metadata": metadata.num_rows}
    if len(set(rows.values())) > 1:
        raise ValueError(f"{', '.join(rows)} have {', '.join(map(str, rows.values()))} rows: not equal")
    hashes = {}
    for part, path in partition_paths(folder, number).items():
        if part not in rows:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, alone=True) as temporary:
            if part == "metadata":
                parquet.write_table(metadata, temporary)
            else:
                with open(temporary, "wb") as stream:
                    np.save(stream, arrays[part], allow_pickle=False)
        hashes[path.relative_to(folder).as_posix()] = hash_file(path)
    return hashes


def _partition_files(folder: Path, part: str) -> dict[int, Path]:
    """Partition number -> file of one part; empty for one that is not required and not there."""
    names, pattern = FOLDERS[part]
    folders = [found for name in names for found in sorted(folder.glob(name)) if found.is_dir()]
    found: dict[int, Path] = {}
    for place in folders:
        for path in sorted(place.iterdir()):
            match = re.fullmatch(pattern, path.name)
            if match is None:
                continue
            number = int(match[1])
            if number in found:
                raise ValueError(f"partition {number} is both {found[number]} and {path}: expected one of them")
            found[number] = path
    if not found and part in REQUIRED:
        expected = " or ".join(f"{name}/{pattern}" for name in names)
        raise FileNotFoundError(f"{folder} is no embedding store: it has no {part} ({expected})")
    return found


def _memory_mapped(path: Path) -> np.ndarray:
    array = memory_mapped(path)
    if array.ndim != 2 or array.dtype not in DTYPES:
        raise ValueError(f"{path} is {array.dtype} {list(array.shape)}: expected float16 or float32 [n, d]")
    return array


def _thumbnails(numbers: list[int], files: dict[int, Path], image: list[np.ndarray]) -> ThumbnailRows | None:
    return ThumbnailRows([files[number] for number in numbers], [len(part) for part in image]) if files else None


def _as_strings(column: pyarrow.Array) -> pyarrow.Array:
    """The column as text, null where it is null."""
    import pyarrow

    if pyarrow.types.is_string(column.type):
        return column
    return pyarrow.array([None if value is None else str(value) for value in column.to_pylist()], pyarrow.string())


def _check_rows(
    folder: Path, numbers: list[int], arrays: dict[str, list[np.ndarray]], metadata: dict[int, Path]
) -> None:
    """Refuse partitions whose parts have different numbers of rows, or another width than the first."""
    from pyarrow import ArrowException, parquet

    width = arrays["image"][0].shape[1]
    for index, number in enumerate(numbers):
        image, text = arrays["image"][index], arrays["text"][index]
        try:
            rows = parquet.read_metadata(opened(metadata[number])).num_rows if metadata else len(image)
        except (ArrowException, OSError) as error:
            raise ValueError(f"{metadata[number]} is no readable parquet file: {error}") from error
        if not len(image) == len(text) == rows:
            raise ValueError(
                f"{folder}: partition {number} has {len(image)} image embeddings, {len(text)} text embeddings and "
                f"{rows} rows of metadata: expected the same number of each"
            )
        if image.shape[1] != width or text.shape[1] != width:
            raise ValueError(
                f"{folder}: partition {number} has widths {image.shape[1]} (image) and {text.shape[1]} (text): "
                f"expected {width} as in partition {numbers[0]}"
            )
