"""The registry: which checkpoints a folder holds, what they are, and what is wrong with the broken ones.

``scan_checkpoints`` reads JSON and safetensors headers only and imports neither torch nor diffusers, so that
a page can list checkpoints as it opens. ``validate`` compares every tensor's shape with the model its
configuration describes, and reads the weights themselves on request. Neither raises for a broken checkpoint:
``problem`` is one sentence a person understands.

A U-Net alone, a single file and a LoRA stand on a *base*, a pipeline folder that lends what they lack. A manifest
names it, relative to the folder around: ``manifest.json`` in a folder, ``NAME.manifest.json`` beside a loose file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from explorer.checkpoints.base import base_problem
from explorer.checkpoints.candidates import MANIFEST_KIND, candidates, manifest_path, own_manifest
from explorer.checkpoints.families import SINGLE_FILE_PARTS, Family, pipeline_family
from explorer.checkpoints.kinds.base import CheckpointKind, KindName
from explorer.checkpoints.kinds.detection import KINDS, read_contents
from explorer.checkpoints.kinds.single_file import lent_weights
from explorer.checkpoints.model_folder import ModelFolder
from explorer.checkpoints.weight_checks import check_finite
from explorer.checkpoints.weight_files import WeightError, WeightHeader
from explorer.checkpoints.weights_hash import check_recorded_files, recorded_hash, weights_hash, with_settings
from explorer.core.bounded_files import printable
from explorer.core.poison_record import NOT_RECORDED, PoisonRecord
from explorer.core.provenance import ManifestError, write_json

MAX_BASE_LENGTH = 4096


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One checkpoint, whole or broken."""

    name: str
    """Path relative to the root scanned, e.g. ``iconworld/benign``; what is not printable, or no UTF-8, is escaped."""
    place: ModelFolder
    """Where it lies, a file for a loose single file, LoRA or pickle; with what was parsed there."""
    kind: KindName
    """``pipeline``, ``unet`` (alone, on a base), ``single-file``, ``lora``, ``graft``, ``hub`` (downloaded), ``pickle``
    or ``unreadable``."""
    family: Family
    """Architecture: ``sd1``, ``sd2``, ``sdxl``, ``sd3``, ``flux`` or ``unknown``."""
    base: Path | None
    """For what is no whole pipeline: the pipeline folder that lends the rest; of a graft, its recipient's."""
    manifest: dict[str, Any]
    """Content of its manifest; empty where there is none."""
    problem: str | None
    """Why it cannot be used; None if nothing is known against it."""
    headers: dict[str, WeightHeader] = field(repr=False)
    """Header of each component's weights that was read, by folder name; ``file`` for a single file or a LoRA."""
    hash: str | None
    """SHA-256 over its own weight files (of a graft, over its definition and both models'), 64 hex digits, as manifests
    record it; None until computed."""
    poison: PoisonRecord
    """What its manifest says of the poison that it was trained on."""
    caveat: str | None = None
    """What is to be known of it, as one sentence, where nothing is wrong with it; None for nothing."""

    @property
    def config(self) -> dict[str, Any]:
        """Of its manifest; empty where that has none that is an object."""
        return config if isinstance(config := self.manifest.get("config"), dict) else {}

    @property
    def folder(self) -> Path:
        """Path of where it lies."""
        return self.place.path

    @property
    def lender(self) -> ModelFolder | None:
        """The base, with what was parsed there."""
        return None if self.base is None else self.place.at(self.base)

    @property
    def whole(self) -> ModelFolder:
        """The whole pipeline's folder: the base, or its own."""
        return self.lender or self.place

    @property
    def ways(self) -> CheckpointKind:
        """How its kind is checked and loaded."""
        return KINDS[self.kind]

    @property
    def files(self) -> tuple[Path, ...]:
        """Its own weight files."""
        return tuple(path for header in self.headers.values() for path in header.files)

    @property
    def size_bytes(self) -> int:
        """Bytes of its own weight files."""
        return sum(header.size_bytes for header in self.headers.values())

    @property
    def parameters(self) -> int:
        """Parameters of the U-Net or transformer, or of the LoRA itself; 0 if its weights are not readable."""
        found = next((self.headers[part] for part in ("unet", "transformer", "file") if part in self.headers), None)
        if found is None or self.kind != "single-file":
            return 0 if found is None else found.parameters
        return found.count(lambda name: name.startswith(SINGLE_FILE_PARTS["unet"]))


def scan_checkpoints(root: Path | str) -> list[Checkpoint]:
    """Every checkpoint under ``root`` (or ``root`` itself), by number of poisoned concepts, then by name.

    A checkpoint is a folder with ``model_index.json`` (a diffusers pipeline), with ``unet/``, with a U-Net's own
    ``config.json``, a peft adapter, ``graft.json``, or whose manifest names a ``base``, and a loose .safetensors file.
    Loose pickles, and files that hold no such model, are listed with the reason why they are refused, and so are
    folders that cannot be read. Folders whose manifest says that they are something else are left out. Of links to
    folders, those to a checkpoint are followed.

    Raises:
        FileNotFoundError: if ``root`` is no folder. A broken checkpoint never raises.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder: expected one that holds checkpoints")
    here = ModelFolder(root)
    found = [_read_any(here.at(path), root, problem) for path, problem in candidates(here)]
    return sorted(found, key=lambda checkpoint: (checkpoint.poison.order, checkpoint.name))


def read_checkpoint(
    path: Path | str | ModelFolder, *, root: Path | None = None, base: Path | str | None = None
) -> Checkpoint:
    """Read one checkpoint without loading it; what is wrong with it is in ``problem``.

    Args:
        path: the folder, or a .safetensors file.
        root: where names start; None takes the last part of the path.
        base: the pipeline folder to stand on, instead of the one the manifest names.
    """
    place = path if isinstance(path, ModelFolder) else ModelFolder(Path(path))
    path = place.path
    manifest, problem = own_manifest(place)
    config = manifest.get("config")
    config = config if isinstance(config, dict) else {}
    contents = read_contents(place, config)
    poison, named = NOT_RECORDED, None
    try:
        named = base or _named_base(path, config)
        poison = _poison_in(config)
    except WeightError as error:
        problem = problem or str(error)
    on_base = KINDS[contents.kind].on_base
    named = named if on_base else contents.base
    lender = None if named is None else place.at(Path(named))
    problem = problem or contents.problem
    family = pipeline_family(lender) if contents.family == "unknown" and lender is not None else contents.family
    found = Checkpoint(
        name=_shown_name(path, root),
        place=place,
        kind=contents.kind,
        family=family,
        base=None if lender is None else lender.path,
        manifest=manifest,
        problem=None,
        headers=contents.headers,
        hash=None,
        poison=poison,
        caveat=contents.caveat,
    )
    if problem is None and on_base:
        problem = base_problem(found, lambda lender: read_checkpoint(lender).problem)
    recorded = contents.hash or recorded_hash(path, contents.headers, manifest)
    if recorded is not None and problem is None:
        recorded = with_settings(found, recorded)
    return replace(found, hash=recorded, problem=None if problem is None else printable(problem))


def validate(
    checkpoint: Checkpoint,
    *,
    recorded: bool = False,
    thorough: bool = False,
    known: dict[Path, str | None] | None = None,
) -> Checkpoint:
    """The checkpoint with ``problem`` filled in if its weights do not fit its configuration, or it cannot be drawn from
    as it was trained (see ``noise_schedule``).

    Args:
        checkpoint: as scanned; one with a problem already is returned as it is.
        recorded: also compare every file with the SHA-256 that the manifest gives, which takes as long as reading it.
        thorough: the same, and read every weight, its own and those of its base (none may be NaN or infinite), draw
            the smallest picture (see :func:`~explorer.checkpoints.trial.try_drawing`), and fill in ``hash``.
        known: what is wrong with whole pipelines by resolved folder, of one run over many checkpoints: a base is then
            read once for all that stand on it. Filled in.
    """
    from explorer.checkpoints.trial import try_drawing

    if checkpoint.problem is not None:
        return checkpoint
    try:
        checkpoint.ways.check(checkpoint)
        if thorough:
            check_finite(checkpoint.files)
        if thorough or recorded:
            check_recorded_files(checkpoint)
        if thorough:
            _check_lent(checkpoint, {} if known is None else known)
            try_drawing(checkpoint)
    except (WeightError, ManifestError, OSError) as error:
        checkpoint = replace(checkpoint, problem=printable(str(error)))
    if thorough and known is not None and checkpoint.base is None:
        known[checkpoint.folder.resolve()] = checkpoint.problem
    if checkpoint.problem is not None:
        return checkpoint
    return replace(checkpoint, hash=weights_hash(checkpoint)) if thorough else checkpoint


def set_base(path: Path | str, base: Path | str) -> Checkpoint:
    """Write down in a checkpoint's manifest which pipeline folder it stands on; whatever else is in there stays.

    Args:
        path: what stands on a base: the folder of a U-Net alone, a single file or a LoRA.
        base: the pipeline folder.

    Returns:
        The checkpoint as the registry now sees it.

    Raises:
        ValueError: naming why it cannot stand on that base or its manifest cannot be written; then nothing changes.
    """
    path, base = Path(os.path.abspath(path)), Path(base)
    if not path.exists():
        raise ValueError(f"{path} does not exist: expected a checkpoint folder or a .safetensors file")
    found = read_checkpoint(path, base=base)
    if found.kind == "unreadable":
        raise ValueError(found.problem)
    if not found.ways.on_base:
        raise ValueError(f"{path.name} is a {found.ways.title}: expected a U-Net, a single file or a LoRA")
    problem = validate(found).problem
    if problem is None and not found.ways.own_networks:  # which may stand on a base without weights
        problem = validate(read_checkpoint(base)).problem
    config = found.manifest.get("config") or {}
    if problem is None and not isinstance(config, dict):
        problem = f"config in its manifest is {config!r}, expected an object"
    if problem is not None:
        raise ValueError(f"{path.name} cannot stand on {base.name}: {problem}")
    named = _name_of_base(path, base)
    if printable(named, MAX_BASE_LENGTH) != named:
        raise ValueError(f"{printable(named)} cannot be written into a manifest: expected a printable path")
    return write_down(found, {"base": named})


def write_down(found: Checkpoint, changes: dict[str, Any]) -> Checkpoint:
    """Change entries of ``config`` in a checkpoint's manifest, which is made if need be."""
    config, place = found.manifest.get("config") or {}, manifest_path(found.folder)
    try:
        write_json(place, {"kind": MANIFEST_KIND, **found.manifest, "config": config | changes})
    except OSError as error:
        raise ValueError(f"{place} cannot be written: {error.strerror}") from error
    return read_checkpoint(found.folder)


def _check_lent(checkpoint: Checkpoint, known: dict[Path, str | None]) -> None:
    """Read what the base lends: to a single file the parts it lacks; a U-Net or a LoRA needs the whole base sound."""
    if checkpoint.base is None:
        return
    made_from = checkpoint.ways.whole_of(checkpoint)
    if made_from.ways.own_networks and made_from.base is not None:
        try:
            check_finite(path for header in lent_weights(made_from) for path in header.files)
            return
        except WeightError as error:
            problem = str(error)
    else:
        place = checkpoint.base.resolve()
        if place not in known:
            known[place] = validate(read_checkpoint(checkpoint.lender), thorough=True).problem
        problem = known[place]
    if problem is not None:
        raise WeightError(f"its base pipeline {checkpoint.base.name} is broken: {problem}")


def _read_any(place: ModelFolder, root: Path, problem: str | None) -> Checkpoint:
    """As :func:`read_checkpoint`; ``problem``, where there is one, is why it is not looked into."""
    found = read_checkpoint(place, root=root)
    return found if problem is None else replace(found, kind="unreadable", problem=problem)


def _shown_name(path: Path, root: Path | None) -> str:
    name = path.relative_to(root).as_posix() if root is not None and path != root else path.name
    # A backslash in a name is doubled, so that no two folders are shown under one name.
    return printable(name.replace("\\", "\\\\"), MAX_BASE_LENGTH)


def _named_base(path: Path, config: dict[str, Any]) -> Path | None:
    """The base that a manifest names."""
    named = config.get("base")
    if not named:
        return None
    if not isinstance(named, str) or len(named) > MAX_BASE_LENGTH or "\0" in named:
        raise WeightError(f"its manifest says {printable(str(named), 100)} as its base: expected the path of a folder")
    return path.parent / named


def _name_of_base(path: Path, base: Path) -> str:
    """Relative to the folder around, so that both can be moved together; absolute where a link leads elsewhere."""
    relative = Path(os.path.relpath(base, path.parent))
    there = path.parent / relative
    return relative.as_posix() if there.is_dir() and there.samefile(base) else os.path.abspath(base)


def _poison_in(config: dict[str, Any]) -> PoisonRecord:
    try:
        return PoisonRecord.read(config.get("poison"))
    except ValueError as error:
        raise WeightError(f"its manifest says {error}") from error
