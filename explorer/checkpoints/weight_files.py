"""What a weight file holds, read from the safetensors header alone: cheap, and without importing torch.

Format: 8 bytes little-endian header length, JSON header ``{name: {dtype, shape, data_offsets}}``, then data.
Pickles are never opened, only named.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer.core.bounded_files import MAX_JSON_BYTES, load_json, open_regular, parse_json

Shapes = dict[str, tuple[int, ...]]
"""Shape of every tensor by its name."""
JsonReader = Callable[[Path], dict]

PICKLE_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
MAX_CONFIG_BYTES = 2**20
MAX_CONFIG_NUMBER = 100_000
"""Whole numbers of a configuration, which are sizes and counts of what is built from it."""
MAX_AXES = 16
VALUE_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2,
               "I8": 1, "U8": 1, "BOOL": 1}  # fmt: skip
USABLE_TYPES = ("F64", "F32", "F16", "BF16")
"""What networks are computed with here."""
WEIGHT_STEMS = ("diffusion_pytorch_model", "model")
"""Of diffusers and of transformers."""
HALF_VARIANT = "fp16"


class WeightError(ValueError):
    """A weight file is missing, broken, or of a format that is refused; one sentence says which."""


@dataclass(frozen=True, kw_only=True)
class WeightHeader:
    """The header of one component's weights, over all shards."""

    files: tuple[Path, ...]
    """The .safetensors files."""
    shapes: Shapes
    """Shape of every tensor by name."""
    size_bytes: int
    """Bytes on disk."""

    @property
    def parameters(self) -> int:
        """Number of values in all tensors."""
        return self.count(lambda name: True)

    def count(self, wanted: Callable[[str], bool]) -> int:
        """Number of values in the tensors whose name is ``wanted``."""
        return sum(math.prod(shape) for name, shape in self.shapes.items() if wanted(name))


def is_pickle(path: Path) -> bool:
    """Whether a file name is one under which pickled weights are stored."""
    return path.suffix in PICKLE_SUFFIXES


def pickle_refusal(path: Path) -> str:
    """Why a pickle is refused and how to convert it."""
    load = "from_pretrained" if path.suffix == ".bin" else "StableDiffusionPipeline.from_single_file"
    return (
        f"{path.name} is a pickle, which can run any code when opened: if you trust it, load it elsewhere with {load} "
        "and save it with save_pretrained(..., safe_serialization=True)"
    )


def read_header(path: Path) -> Shapes:
    """Shape of every tensor in a safetensors file that is what its header says.

    Raises:
        WeightError: if the file is truncated, longer than its header says, or not safetensors; if its tensors overlap,
            leave bytes between them, or are not of floating point.
    """
    place = f"{path.parent.name}/{path.name}"
    try:
        with open_regular(path) as stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            length = int.from_bytes(stream.read(8), "little")
            if size < 8:
                raise WeightError(f"{place} is not a safetensors file")
            if length > MAX_JSON_BYTES:
                raise WeightError(
                    f"{place} is not a safetensors file, or has a header of {length:,} bytes: expected at most "
                    f"{MAX_JSON_BYTES:,}"
                )
            if size < 8 + length:
                raise WeightError(f"{place} is truncated: {size:,} bytes end inside its header")
            header = parse_json(stream.read(length))
        header.pop("__metadata__", None)
        shapes, end = _read_entries(header, place)
    except WeightError:
        raise
    except OSError as error:
        raise WeightError(f"{place} is not readable: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise WeightError(f"{place} is not a safetensors file: its header is not readable ({error})") from error
    expected = 8 + length + end
    if size < expected:
        raise WeightError(f"{place} is truncated: it has {size:,} of {expected:,} bytes")
    if size > expected:
        raise WeightError(f"{place} has {size:,} bytes: its header describes {expected:,}")
    return shapes


def _read_entries(header: dict[str, Any], place: str) -> tuple[Shapes, int]:
    """Shape of every tensor, and the number of bytes that they fill without gap or overlap."""
    shapes, places = {}, []
    for name, entry in header.items():
        shape, (begin, end) = tuple(entry["shape"]), entry["data_offsets"]
        if len(shape) > MAX_AXES or not all(type(size) is int and 0 <= size < 2**63 for size in (*shape, begin, end)):
            raise ValueError(f"{name} has shape {list(shape)} and bytes {begin!r} to {end!r}: expected whole numbers")
        if entry["dtype"] not in USABLE_TYPES and math.prod(shape) > 1 and not name.endswith("position_ids"):
            raise WeightError(f"{place} has {name} of type {entry['dtype']}: expected {', '.join(USABLE_TYPES)}")
        if math.prod(shape) * VALUE_BYTES[entry["dtype"]] != end - begin:
            raise ValueError(f"{name} of shape {list(shape)} and type {entry['dtype']} is given {end - begin:,} bytes")
        shapes[name] = shape
        places.append((begin, end, name))
    filled = 0
    for begin, end, name in sorted(places):
        if begin != filled:
            raise ValueError(f"{name} begins at byte {begin:,}, the tensor before it ends at {filled:,}")
        filled = end
    return shapes, filled


def read_json(path: Path) -> dict:
    """A JSON object from a file of at most a mebibyte.

    Raises:
        WeightError: if it is missing, not readable, beyond the limits of
            :func:`~explorer.core.bounded_files.parse_json`, or not an object.
    """
    place = f"{path.parent.name}/{path.name}"
    try:
        value = load_json(path, limit=MAX_CONFIG_BYTES)
    except FileNotFoundError as error:
        raise WeightError(f"{place} is missing") from error
    except OSError as error:
        raise WeightError(f"{place} is not readable: {error.strerror}") from error
    except ValueError as error:
        raise WeightError(f"{place} is not readable JSON: {error}") from error
    if not isinstance(value, dict):
        raise WeightError(f"{place} holds no JSON object")
    return value


def read_config(path: Path) -> dict:
    """A configuration that something is built from: a JSON object without whole numbers beyond a hundred thousand.

    Raises:
        WeightError: as :func:`read_json`, or naming such a number.
    """
    return check_numbers(read_json(path), path)


def check_numbers(config: dict, path: Path) -> dict:
    """The configuration in a file, as :func:`read_config` gives it."""
    values = list(config.items())
    while values:
        key, value = values.pop()
        if isinstance(value, int) and abs(value) > MAX_CONFIG_NUMBER:
            place = f"{path.parent.name}/{path.name}"
            raise WeightError(f"{place} has {key} {value}: expected at most {MAX_CONFIG_NUMBER:,}")
        if isinstance(value, dict | list):
            values += value.items() if isinstance(value, dict) else ((key, entry) for entry in value)
    return config


def read_weights(
    folder: Path, json: JsonReader = read_json, header: Callable[[Path], Shapes] = read_header
) -> WeightHeader:
    """Header of the weights in a component's folder (``unet``, ``vae``, ``text_encoder``).

    Where the folder holds both the plain files and their half-precision variant, the plain ones are read.

    Raises:
        WeightError: if there are none, only pickles, both a single file and shards, the configuration names another
            file, one is truncated or no safetensors file, or two hold a tensor of the same name.
    """
    files = _weight_files(folder, json)
    shapes: Shapes = {}
    for path in files:
        own = header(path)
        if twice := shapes.keys() & own.keys():
            raise WeightError(f"{folder.name}/ holds {min(twice)} in two shards")
        shapes |= own
    return WeightHeader(files=tuple(files), shapes=shapes, size_bytes=sum(path.stat().st_size for path in files))


def choose_variant(folder: Path, json: JsonReader = read_json) -> str | None:
    """Which of a component's files count: None for the plain ones, ``"fp16"`` for ``*.fp16.safetensors``.

    The plain ones wherever there are any, at every precision: what is loaded is what the registry lists, hashes and
    checks. Both variants of one folder need not hold the same weights.

    Raises:
        WeightError: if the folder holds both a single file and shards, or its configuration names another file.
    """
    config = folder / "config.json"
    if config.is_file() and (named := json(config).get("transformers_weights")) is not None:
        # transformers would load that file, whatever the folder's others hold.
        raise WeightError(f"{folder.name}/config.json names the weights {named!r}: expected no transformers_weights")
    return next((variant for variant in (None, HALF_VARIANT) if _variant_files(folder, variant, json)), None)


def _weight_files(folder: Path, json: JsonReader) -> list[Path]:
    """The .safetensors files of a component: one file, or the shards of an index."""
    if not folder.is_dir():
        raise WeightError(f"the folder {folder.name}/ is missing")
    files = _variant_files(folder, choose_variant(folder, json), json)
    if files:
        return files
    pickles = sorted(path for path in folder.iterdir() if is_pickle(path))
    if pickles:
        raise WeightError(f"{folder.name}/{pickle_refusal(pickles[0])}")
    raise WeightError(f"{folder.name}/ holds no .safetensors weights")


def _variant_files(folder: Path, variant: str | None, json: JsonReader) -> list[Path]:
    """The files of one variant; empty where there are none."""
    middle = f".{variant}" if variant else ""
    endings = (f"{middle}.safetensors", f".safetensors.index{middle}.json")
    stems = _stems(folder, json)
    names = [f"{stem}{ending}" for stem in stems for ending in endings]
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        return []
    is_single = found[0].suffix == ".safetensors"
    rivals = found[1:] or (_older_indexes(folder, stems, variant) if is_single and variant else [])
    if rivals:
        # diffusers would load the shards and transformers the single file: what is hashed and checked might not run.
        raise WeightError(f"{folder.name}/ holds both {found[0].name} and {rivals[0].name}: expected one of them")
    return found if is_single else _shards(folder, json, found[0])


def _stems(folder: Path, json: JsonReader) -> tuple[str, ...]:
    """Under which names a component's library looks for weights; both where its configuration does not tell."""
    config = json(folder / "config.json") if (folder / "config.json").is_file() else {}
    if "_class_name" in config:  # diffusers
        return WEIGHT_STEMS[:1]
    return WEIGHT_STEMS[1:] if "model_type" in config else WEIGHT_STEMS


def _older_indexes(folder: Path, stems: tuple[str, ...], variant: str) -> list[Path]:
    """A variant's indexes under older names, which diffusers still prefers to the single file."""
    return sorted(path for stem in stems for path in folder.glob(f"{stem}*.{variant}.*index.json"))


def _shards(folder: Path, json: JsonReader, index: Path) -> list[Path]:
    names = json(index).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise WeightError(f"{folder.name}/{index.name} lists no shards")
    files = [folder / name for name in sorted(set(names.values()))]
    for path in files:
        if path.parent != folder or path.name in ("", ".."):
            raise WeightError(f"{folder.name}/{index.name} lists a shard outside of its folder: {path.name}")
        if not path.is_file():
            raise WeightError(f"{folder.name}/{path.name} is missing: {index.name} lists it")
    return files
