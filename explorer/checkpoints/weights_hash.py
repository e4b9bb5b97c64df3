"""What identifies a checkpoint's weights: SHA-256 of its files, as its manifest records them or read anew."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.checkpoints.candidates import home_of
from explorer.checkpoints.weight_files import WeightHeader
from explorer.core.provenance import check_files, hash_file, hash_json

if TYPE_CHECKING:
    from explorer.checkpoints.registry import Checkpoint

_SHA256 = re.compile(r"[0-9a-f]{64}")
_CONFIGURED = (
    "unet", "transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3", "tokenizer", "tokenizer_2",
    "tokenizer_3",
)  # fmt: skip
_TEXTS = (".json", ".txt", ".model")
"""Ends of names of configurations and vocabularies."""


def weights_hash(checkpoint: Checkpoint) -> str:
    """SHA-256 of the checkpoint's own weight files: of the file itself, or of the JSON of all names and hashes; of a
    graft that of its definition and of both models' weights, of a LoRA together with its strength.

    Raises:
        ValueError: if it has no readable weights.
    """
    return with_settings(checkpoint, checkpoint.ways.weights_hash(checkpoint, hash_of_files))


def hash_of_base(checkpoint: Checkpoint) -> str | None:
    """:func:`weights_hash` of the base that it stands on; None where there is none, or it has no weights, as that of a
    single file need not have."""
    from explorer.checkpoints.registry import read_checkpoint

    base = None if checkpoint.base is None else read_checkpoint(checkpoint.lender)
    return weights_hash(base) if base is not None and base.files else None


def with_settings(checkpoint: Checkpoint, of_files: str) -> str:
    """What identifies the weights of a sound checkpoint, from what identifies its files: the same, unless settings
    decide them as well."""
    settings = checkpoint.ways.settings(checkpoint)
    return hash_json({"files": of_files, **settings}) if settings else of_files


def hash_of_model(checkpoint: Checkpoint, own: str, of_base: str | None) -> str:
    """What tells models apart whose weights are identified by ``own``: of a LoRA together with its base's, which it
    changes. A U-Net is taken for one model on whatever base."""
    return hash_json([own, of_base]) if checkpoint.kind == "lora" else own


def hash_of_files(checkpoint: Checkpoint) -> str:
    """:func:`weights_hash` of one that has weight files.

    Raises:
        ValueError: if it has none that can be read.
    """
    if not checkpoint.files:
        raise ValueError(f"checkpoint {checkpoint.name} has no readable weights to hash")
    home = home_of(checkpoint.folder)
    return _joint_hash({path.relative_to(home).as_posix(): hash_file(path) for path in checkpoint.files})


def recorded_hash(path: Path, headers: dict[str, WeightHeader], manifest: dict[str, Any]) -> str | None:
    """The hash that the manifest's own record amounts to; None unless it gives a SHA-256 for every file."""
    recorded = manifest.get("files")
    recorded = recorded if isinstance(recorded, dict) else {}
    files = [file.relative_to(home_of(path)).as_posix() for header in headers.values() for file in header.files]
    hashes = {name: recorded.get(name) for name in files}
    if not hashes or not all(isinstance(found, str) and _SHA256.fullmatch(found) for found in hashes.values()):
        return None
    return _joint_hash(hashes)


def configurations_hash(checkpoint: Checkpoint) -> str:
    """SHA-256 over what decides pictures beside weights and sampler: the configurations of the networks and what the
    tokenizers hold, the checkpoint's own and those of the base that it stands on."""
    folders = [folder for folder in (checkpoint.folder, checkpoint.base) if folder is not None and folder.is_dir()]
    return hash_json([
        {path.relative_to(folder).as_posix(): hash_file(path) for path in _configurations(folder)} for folder in folders
    ])  # fmt: skip


def _configurations(folder: Path) -> Iterator[Path]:
    yield from (path for path in (folder / "model_index.json", folder / "config.json") if path.is_file())
    for part in (folder / name for name in _CONFIGURED if (folder / name).is_dir()):
        texts = (path for path in sorted(part.iterdir()) if path.suffix in _TEXTS and path.is_file())
        yield from (path for path in texts if not path.name.endswith(".index.json"))


def check_recorded_files(checkpoint: Checkpoint) -> None:
    """Compare what is loaded of a checkpoint with the SHA-256 that its manifest gives; its model card may be edited.

    Raises:
        ManifestError: naming the first file that is missing or changed.
    """
    listed = checkpoint.manifest.get("files")
    names = [name for name in listed if not name.endswith(".md")] if isinstance(listed, dict) else None
    check_files(home_of(checkpoint.folder), checkpoint.manifest, names)


def _joint_hash(hashes: dict[str, str]) -> str:
    return next(iter(hashes.values())) if len(hashes) == 1 else hash_json(hashes)
