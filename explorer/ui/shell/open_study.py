"""A study as the app holds it open: its checkpoints, its results, and what of it is not there.

Nothing heavy is imported here. Results are compared with the SHA-256 in their step's manifest before use, so that a
damaged or half-updated folder shows a message instead of wrong numbers.
"""

from __future__ import annotations

import glob
import json
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from explorer.checkpoints.registry import Checkpoint, read_checkpoint, scan_checkpoints, validate
from explorer.core.bounded_files import files_below
from explorer.core.provenance import MANIFEST_NAME, ROOT, ManifestError, hash_file
from explorer.studies.arms import arm_checkpoint, arm_checkpoints
from explorer.studies.results import STEPS, result_file, step_folder, step_manifest
from explorer.studies.specs import LOCAL, ExtractorSpec
from explorer.studies.state import StepState, study_state, why_stale
from explorer.studies.study import Study
from explorer.ui.shell.messages import in_the_app
from explorer.ui.shell.missing_steps import (
    MADE,
    SCANNED,
    MissingStepError,
    run_command,
    shown_folder,
    study_command,
    what_it_costs,
    what_lacks,
)
from explorer.ui.shell.model_thread import ModelThread

STUDY_ROUTE = "/study"


class OpenStudy:
    """One study of a running app, or a folder of checkpoints shown as one; safe to use from several threads."""

    def __init__(self, study: Study, *, slug: str, models: ModelThread, scanned: bool = False):
        """Open a study.

        Args:
            slug: what addresses call it; unique in the app.
            models: the thread that everything which computes with torch runs on.
            scanned: whether the folder holds checkpoints instead of a study: each that is found is an arm.
        """
        self.slug, self.scanned = slug, scanned
        self._models, self._study = models, study
        self._lock = threading.RLock()
        self._making: dict[Any, Any] = {}  # a lock for each key of `remember`
        self._cache: dict[Any, Any] = {}

    @staticmethod
    def of_checkpoints(folder: Path, *, slug: str, models: ModelThread) -> OpenStudy:
        """A folder of checkpoints, with a universal extractor of ours in ``extractor`` where it has one: no results."""
        extractor = folder / "extractor"
        spec = ExtractorSpec(folder=extractor if extractor.is_dir() else None)
        study = Study(folder=folder, name=folder.name or str(folder), extractor=spec, arms=())
        return OpenStudy(study, slug=slug, models=models, scanned=True)

    @property
    def study(self) -> Study:
        """What ``study.toml`` said when it was last read."""
        return self._study

    def result_file(self, step: str, name: str) -> Path:
        """Path of one of a step's files, checked against the manifest's SHA-256 (again whenever it changed).

        Raises:
            MissingStepError: if the step is not done.
            ManifestError: if the file is missing or its content is not what was recorded.
        """
        self._check_done(step)
        return result_file(self.study, step, name, hashed=self._remembered_hash)

    def result_json(self, step: str, name: str) -> dict[str, Any]:
        """Content of a step's JSON file, checked as in :meth:`result_file` and kept in memory. Do not change it."""
        path = self.result_file(step, name)
        return self.remember(("json", step, name), _stamp(path), lambda: json.loads(path.read_text(encoding="utf-8")))

    def result_url(self, step: str, name: str) -> str:
        """URL of a step's file; the hash in it makes a browser fetch a new version.

        Raises:
            ManifestError: as :meth:`result_file`.
        """
        self.result_file(step, name)
        digest = step_manifest(self.study, step)["files"][name]
        return f"{STUDY_ROUTE}/{self.slug}/{step}/{quote(name)}?v={digest[:12]}"

    def result_names(self, step: str) -> list[str]:
        """Names of a step's files, sorted.

        Raises:
            MissingStepError: if the step is not done.
        """
        self._check_done(step)
        return sorted(step_manifest(self.study, step)["files"])

    def result_command(self, *steps: str) -> str:
        """The command that does some steps."""
        return run_command(self.study, *steps)

    def states(self) -> dict[str, StepState]:
        """Every step's state by its name, none of a folder of checkpoints.

        What was found holds until the study is read again, or a step is done.
        """
        if self.scanned:
            return {}
        manifests = [step_folder(self.study, step) / MANIFEST_NAME for step in STEPS]
        stamp = (id(self.registry()), [_stamp(path) if path.is_file() else None for path in manifests])
        return self.remember("states", stamp, lambda: {state.step: state for state in study_state(self.study)})

    def stale_steps(self) -> dict[str, str]:
        """Steps that were made from other models, pairs or settings than the study has now, to what differs."""
        return {name: why for name, state in self.states().items() if (why := why_stale(state))}

    def missing(self, error: MissingStepError) -> dict[str, str]:
        """For the screens' scripts: what the step would show, what it lacks, the command, and roughly its cost."""
        words = {"made": MADE[error.step], "command": error.command, "lacks": SCANNED, "cost": ""}
        if self.scanned:
            return words
        state = self.states()[error.step]
        return words | {"lacks": self.without_places(what_lacks(state)), "cost": what_it_costs(state)}

    def _check_done(self, step: str) -> None:
        if not (step_folder(self.study, step) / MANIFEST_NAME).is_file():
            command = study_command(self.study) if self.scanned else self.result_command(step)
            raise MissingStepError(self.study.name, step, command)

    def _remembered_hash(self, path: Path) -> str:
        return self.remember(("hash", path), _stamp(path), lambda: hash_file(path))

    def checkpoint_names(self) -> list[str]:
        """Names of the checkpoints nothing is known against, the control first, then by C_P."""
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
        raise ValueError(f"There is no checkpoint called {name!r} in {self.study.name}.")

    def registry(self) -> list[Checkpoint]:
        """Every checkpoint, broken ones with a ``problem``; read once, see :meth:`refresh_registry`.

        Reads JSON and safetensors headers only; what :meth:`check_weights` found in unchanged files is in it.
        Empty if a folder of checkpoints does not exist.
        """
        with self._lock:
            if "registry" not in self._cache:
                self._cache["registry"] = [self._with_finding(checkpoint) for checkpoint in self._scan()]
            return self._cache["registry"]

    def _scan(self) -> list[Checkpoint]:
        if not self.scanned:
            return arm_checkpoints(self.study)
        root = self.study.folder
        return scan_checkpoints(root) if root.is_dir() else []

    def refresh_registry(self) -> list[Checkpoint]:
        """Read ``study.toml`` and the checkpoints again.

        Raises:
            ValueError: as :meth:`explorer.studies.study.Study.load`; what was read before stays.
        """
        with self._lock:
            if not self.scanned:
                self._study = Study.load(self.study.folder)
            self._cache.pop("registry", None)
            return self.registry()

    def check_weights(self, checkpoint: Checkpoint, known: dict[Path, str | None] | None = None) -> Checkpoint:
        """Read every weight of a checkpoint, again if need be; the registry tells the finding until a file changes.

        Imports torch.

        Args:
            known: see :func:`~explorer.checkpoints.registry.validate`.
        """
        fresh = self._read_again(checkpoint)
        stamps = _stamps(fresh)
        checked = self._models.do(lambda: validate(fresh, thorough=True, known=known))
        with self._lock:
            self._cache["finding", checkpoint.name, checkpoint.folder] = (stamps, checked)
            # Scanned again, since a base may have been named while the weights were read.
            self.refresh_registry()
        return checked

    def _read_again(self, checkpoint: Checkpoint) -> Checkpoint:
        if self.scanned:
            return read_checkpoint(checkpoint.folder, root=self.study.folder)
        return arm_checkpoint(self.study.arm(checkpoint.name))

    def _with_finding(self, scanned: Checkpoint) -> Checkpoint:
        """The checkpoint as checked, if nothing is known against it and its files are those that were checked."""
        finding = self._cache.get(("finding", scanned.name, scanned.folder))
        if scanned.problem is not None:
            return replace(scanned, problem=self.without_places(scanned.problem))
        if finding is None:
            return scanned
        stamps, checked = finding
        return checked if stamps == _stamps(scanned) else scanned

    def in_words(self, error: BaseException) -> str:
        """What the page or a program is told of an error, without where on this machine the study's folders lie."""
        told = getattr(error, "strerror", None) or str(error)
        return self.without_places(told if is_told(error) else f"{type(error).__name__}: {told}")

    def without_places(self, text: str) -> str:
        """``text`` with the study's folders by their names alone; the study's own as a command can name it."""
        names = {str(place): name for place, name in self._names_of_places().items()}
        longest_first = sorted(names, key=len, reverse=True)
        # At once: the study's own folder, as a command names it, may lie in another one.
        text = re.sub("|".join(map(re.escape, longest_first)), lambda found: names[found[0]], text)
        return text.replace(f"{ROOT}/", "")

    def _names_of_places(self) -> dict[Path, str]:
        study = self.study
        paths = [*study.beside, *study.runs, *study.other_bases]
        paths += [path for arm in study.arms for path in (arm.checkpoint, arm.pairs)]
        specs = (study.extractor, study.aesthetics, study.classifier, study.filters)
        settings = [value for spec in specs if spec is not None for value in vars(spec).values()]
        paths += [Path(value.removeprefix(LOCAL)) if str(value).startswith(LOCAL) else value for value in settings]
        parts = [path.parent for path in paths if isinstance(path, Path)]
        places = [(place, part.name) for part in parts for place in (part, part.resolve())]
        names = {place: name for place, name in places if place not in (ROOT, place.parent)}
        own = study.folder.name if self.scanned else shown_folder(study)
        return names | dict.fromkeys((study.folder, study.folder.resolve()), own)

    def remember(self, key: Any, stamp: Any, make: Callable[[], Any]) -> Any:
        """``make()``, or what it gave when ``stamp`` was last the same. Meanwhile nobody waits but who asks for it."""
        with self._lock:
            making = self._making.setdefault(key, threading.RLock())
        with making:
            kept = self._cache.get(key)
            if kept is None or kept[0] != stamp:
                kept = self._cache[key] = (stamp, make())
            return kept[1]


def is_told(error: BaseException) -> bool:
    """Whether an error's words are for whoever asked; others are told by their type and belong in the log."""
    return isinstance(error, ValueError | OSError) or type(error).__name__ == "GenerationStopped"


def told(opened: OpenStudy, error: ManifestError) -> dict[str, Any]:
    """What a screen's script is given in place of what it draws: ``problem``, and ``missing`` where a step is."""
    words: dict[str, Any] = {"problem": opened.in_words(error)}
    return words | ({"missing": opened.missing(error)} if isinstance(error, MissingStepError) else {})


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def _stamps(checkpoint: Checkpoint) -> list[tuple[str, int, int]]:
    """Of every file of a checkpoint's folder, or of a loose file and its manifest, of its base and, of a graft, of its
    two models."""
    place = checkpoint.folder
    loose = f"{glob.escape(place.stem)}.*"
    files = [*(files_below(place) if place.is_dir() else place.parent.glob(loose))]
    if checkpoint.base is not None:
        files += files_below(checkpoint.base)
    files += set(checkpoint.ways.files_read(checkpoint)) - set(files)
    return sorted((str(path), *_stamp(path)) for path in files if path.is_file())
