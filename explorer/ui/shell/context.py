"""What every screen reads from: where things lie, the checkpoints found, the precomputed artefacts.

Nothing heavy is imported here. Precomputed files are compared with the SHA-256 in their manifest before use,
so that a damaged or half-updated download shows a message instead of wrong numbers.
"""

from __future__ import annotations

import glob
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from explorer.checkpoints.registry import Checkpoint, read_checkpoint, scan_checkpoints, validate
from explorer.core.bounded_files import files_below, path_inside, printable
from explorer.core.provenance import MANIFEST_NAME, ROOT, ManifestError, hash_file, read_manifest
from explorer.ui.shell.messages import in_the_app
from explorer.ui.shell.model_thread import ModelThread

PRECOMPUTE_HINT = "Run `python -m explorer precompute` to make it again."
PAYLOAD_ROUTE = "/payload"
PRECOMPUTED_ROUTE = "/precomputed"
STATIC_ROUTE = "/explorer-static"


@dataclass(frozen=True, kw_only=True)
class AppSettings:
    """What the command line decides."""

    checkpoints: Path = ROOT / "checkpoints" / "iconworld"
    """Folder whose subfolders are checkpoints, with the universal extractor in ``extractor``."""
    precomputed: Path = ROOT / "assets" / "precomputed"
    """Folder with the first view's artefacts and their manifest."""
    host: str = "127.0.0.1"
    """Address to listen on; any but a loopback address needs ``credentials``."""
    port: int = 7860
    """TCP port."""
    credentials: tuple[str, str] | None = field(default=None, repr=False)
    """User name and password asked of every request; None on a loopback address only."""
    device: str = "cpu"
    """Torch device of the models."""
    precision: str | None = None
    """Of the models: ``fp32``, ``fp16`` or ``bf16``; None for fp32."""
    offload: str | None = None
    """``model`` or ``sequential``: keep the models in memory and move them to the GPU part by part."""
    warm_up: bool = True
    """Whether to load the models in the background once the first page is up."""
    root_path: str = ""
    """Path or URL that a reverse proxy shows the app under; empty where it takes its prefix off the path."""


@dataclass(frozen=True, kw_only=True)
class AppContext:
    """Shared by all screens of one running app; safe to use from several threads."""

    settings: AppSettings
    """What the command line decided."""
    payloads: dict[str, Callable[[], dict[str, Any]]] = field(default_factory=dict)
    """Makers of what a screen's JavaScript fetches, by name; see :meth:`add_payload`."""
    models: ModelThread = field(default_factory=ModelThread, repr=False)
    """Where everything that computes with torch runs."""
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)
    _cache: dict[Any, Any] = field(default_factory=dict, repr=False)

    def add_payload(self, name: str, make: Callable[[], dict[str, Any]]) -> str:
        """Serve ``make()`` as JSON and return its URL.

        ``make`` runs at every request (cache inside if it costs); a ManifestError or ValueError it raises is
        served as ``{"problem": "..."}``, which the screens show as a message.
        """
        if name in self.payloads:
            raise ValueError(f"payload {name!r} exists: expected a new name")
        self.payloads[name] = make
        return f"{PAYLOAD_ROUTE}/{name}.json"

    def precomputed_file(self, name: str) -> Path:
        """Path of a precomputed file, checked against the manifest's SHA-256 (again whenever it changed).

        Args:
            name: as the manifest lists it: relative to the folder, with forward slashes.

        Raises:
            ManifestError: if the manifest or the file is missing, or the content is not what was recorded.
        """
        folder = self.settings.precomputed
        expected = self._precomputed_manifest().get("files", {}).get(name)
        if expected is None:
            raise ManifestError(f"{folder / MANIFEST_NAME} does not list {name}. {PRECOMPUTE_HINT}")
        try:
            path = path_inside(folder, name)
        except ValueError as error:
            raise ManifestError(f"{error}. {PRECOMPUTE_HINT}") from error
        if not path.is_file():
            raise ManifestError(f"{path} is missing although the manifest lists it. {PRECOMPUTE_HINT}")
        found = self.remember(("hash", name), _stamp(path), lambda: hash_file(path))
        if found != expected:
            raise ManifestError(
                f"{path} was changed: its SHA-256 is {found[:12]}…, the manifest expects {expected[:12]}…. "
                f"{PRECOMPUTE_HINT}"
            )
        return path

    def in_words(self, error: BaseException) -> str:
        """What the page or a program is told of an error, without where on this machine our folders lie."""
        told = getattr(error, "strerror", None) or str(error)
        return self.without_places(told if is_told(error) else f"{type(error).__name__}: {told}")

    def without_places(self, text: str) -> str:
        """``text`` with our folders by their names alone."""
        for folder in (self.settings.checkpoints, self.settings.precomputed):
            for place in (folder, folder.resolve()):
                text = text.replace(str(place), folder.name)
        return text.replace(f"{ROOT}/", "")

    def precomputed_json(self, name: str) -> dict[str, Any]:
        """Content of a precomputed JSON file, checked as in :meth:`precomputed_file` and kept in memory.

        Treat the result as read-only.
        """
        path = self.precomputed_file(name)
        return self.remember(("json", name), _stamp(path), lambda: json.loads(path.read_text(encoding="utf-8")))

    def precomputed_url(self, name: str) -> str:
        """URL of a precomputed file; the hash in it makes a browser fetch a new version.

        Raises:
            ManifestError: as :meth:`precomputed_file`.
        """
        self.precomputed_file(name)
        return f"{PRECOMPUTED_ROUTE}/{name}?v={self._precomputed_manifest()['files'][name][:12]}"

    def precomputed_names(self, prefix: str = "") -> list[str]:
        """Names of the precomputed files that begin with ``prefix``, sorted; empty without a manifest."""
        try:
            manifest = self._precomputed_manifest()
        except ManifestError:
            return []
        return sorted(name for name in manifest.get("files", {}) if name.startswith(prefix))

    def precomputed_of_other_models(self) -> list[str]:
        """Models of the precomputed results that the checkpoint folder lacks or holds with other weights."""
        try:
            recorded = self._precomputed_manifest().get("config", {}).get("models", {})
        except ManifestError:
            return []
        # A list is of an older version, which did not keep the weights' hashes.
        hashes = recorded if isinstance(recorded, dict) else dict.fromkeys(recorded)
        present = {checkpoint.name: checkpoint.hash for checkpoint in self.registry()}
        return [name for name, expected in hashes.items() if expected is None or present.get(name) != expected]

    def extractor_world(self) -> tuple[str, int | None]:
        """What the manifest of the extractor beside the models calls it, and how many concepts its world has; the
        folder's name and None where it does not say.

        Raises:
            ManifestError: if there is no such manifest.
        """
        config = read_manifest(self.settings.checkpoints / "extractor").get("config")
        world = config.get("world") if isinstance(config, dict) else None
        count = world.get("concept_count") if isinstance(world, dict) else None
        name = config.get("name") if isinstance(config, dict) else None
        name = name if isinstance(name, str) else self.settings.checkpoints.name
        return printable(name, 100), count if type(count) is int and count > 0 else None

    def checkpoint_names(self) -> list[str]:
        """Names of the checkpoints nothing is known against, by number of poisoned concepts."""
        return [checkpoint.name for checkpoint in self.registry() if checkpoint.problem is None]

    def checkpoint(self, name: str) -> Checkpoint:
        """The checkpoint called ``name``.

        Raises:
            ValueError: if there is none, or it is broken, saying why.
        """
        for checkpoint in self.registry():
            if checkpoint.name == name:
                if checkpoint.problem is not None:
                    problem = in_the_app(checkpoint.problem, "on the screen Checkpoints")
                    raise ValueError(f"The checkpoint {name} cannot be used: {problem}.")
                return checkpoint
        raise ValueError(f"There is no checkpoint called {name!r} in {self.settings.checkpoints}.")

    def registry(self) -> list[Checkpoint]:
        """Every checkpoint found, broken ones with a ``problem``; scanned once, see :meth:`refresh_registry`.

        Reads JSON and safetensors headers only; what :meth:`check_weights` found in unchanged files is in it.
        Empty if the folder does not exist.
        """
        with self._lock:
            if "registry" not in self._cache:
                root = self.settings.checkpoints
                scanned = scan_checkpoints(root) if root.is_dir() else []
                self._cache["registry"] = [self._with_finding(checkpoint) for checkpoint in scanned]
            return self._cache["registry"]

    def refresh_registry(self) -> list[Checkpoint]:
        """Scan the checkpoint folder again."""
        with self._lock:
            self._cache.pop("registry", None)
            return self.registry()

    def check_weights(self, checkpoint: Checkpoint, known: dict[Path, str | None] | None = None) -> Checkpoint:
        """Read every weight of a checkpoint, again if need be; the registry tells the finding until a file changes.

        Imports torch.

        Args:
            known: see :func:`~explorer.checkpoints.registry.validate`.
        """
        fresh = read_checkpoint(checkpoint.folder, root=self.settings.checkpoints)
        stamps = _stamps(fresh)
        checked = self.models.do(lambda: validate(fresh, thorough=True, known=known))
        with self._lock:
            self._cache["finding", checkpoint.folder] = (stamps, checked)
            # Scanned again, since a base may have been named while the weights were read.
            self.refresh_registry()
        return checked

    def _with_finding(self, scanned: Checkpoint) -> Checkpoint:
        """The checkpoint as checked, if nothing is known against it and its files are those that were checked."""
        finding = self._cache.get(("finding", scanned.folder))
        if scanned.problem is not None:
            return replace(scanned, problem=self.without_places(scanned.problem))
        if finding is None:
            return scanned
        stamps, checked = finding
        return checked if stamps == _stamps(scanned) else scanned

    def _precomputed_manifest(self) -> dict[str, Any]:
        folder = self.settings.precomputed
        path = folder / MANIFEST_NAME
        if not path.is_file():
            raise ManifestError(f"{path} is missing: there are no precomputed results. {PRECOMPUTE_HINT}")
        manifest = self.remember("manifest", _stamp(path), lambda: read_manifest(folder, kind="precomputed"))
        files, config = manifest.get("files", {}), manifest.get("config", {})
        if not (
            isinstance(files, dict) and isinstance(config, dict) and all(isinstance(s, str) for s in files.values())
        ):
            raise ManifestError(f"{path} does not give the SHA-256 of files by name. {PRECOMPUTE_HINT}")
        return manifest

    def remember(self, key: Any, stamp: Any, make: Callable[[], Any]) -> Any:
        """``make()``, or what it gave when ``stamp`` was last the same."""
        with self._lock:
            kept = self._cache.get(key)
            if kept is None or kept[0] != stamp:
                kept = self._cache[key] = (stamp, make())
            return kept[1]


def is_told(error: BaseException) -> bool:
    """Whether an error's words are for whoever asked; others are told by their type and belong in the log."""
    return isinstance(error, ValueError | OSError) or type(error).__name__ == "GenerationStopped"


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def _stamps(checkpoint: Checkpoint) -> list[tuple[str, int, int]]:
    """Of every file of a checkpoint's folder, or of a loose file and its manifest, and of its base."""
    place = checkpoint.folder
    loose = f"{glob.escape(place.stem)}.*"
    files = [*(files_below(place) if place.is_dir() else place.parent.glob(loose))]
    if checkpoint.base is not None:
        files += files_below(checkpoint.base)
    return sorted((str(path), *_stamp(path)) for path in files if path.is_file())
