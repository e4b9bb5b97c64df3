"""What every screen reads from: the studies that are open, and the makers of what their scripts fetch."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from explorer.core.bounded_files import printable
from explorer.core.provenance import ROOT
from explorer.studies.study import Study
from explorer.ui.shell.model_thread import ModelThread
from explorer.ui.shell.open_study import OpenStudy

SHIPPED_STUDY = ROOT / "assets" / "studies" / "iconworld"
PAYLOAD_ROUTE = "/payload"
STATIC_ROUTE = "/explorer-static"
LONGEST_SLUG = 40


@dataclass(frozen=True, kw_only=True)
class AppSettings:
    """What the command line decides."""

    studies: tuple[Path, ...] = ()
    """Folders of studies, in the order of the chooser; the shipped one where neither they nor ``checkpoints`` are."""
    checkpoints: Path | None = None
    """Folder whose checkpoints are shown as one more study, which has no results."""
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
    payloads: dict[str, Callable[[OpenStudy], dict[str, Any]]] = field(default_factory=dict)
    """Makers of what a screen's JavaScript fetches, by name; see :meth:`add_payload`."""
    models: ModelThread = field(default_factory=ModelThread, repr=False)
    """Where everything that computes with torch runs, whichever study asks for it."""

    @cached_property
    def studies(self) -> tuple[OpenStudy, ...]:
        """The studies that are open, at least one.

        Raises:
            FileNotFoundError: if a folder holds no study.
            ValueError: naming the setting of a study that is not what it should be.
        """
        settings = self.settings
        folders = settings.studies or (() if settings.checkpoints else (SHIPPED_STUDY,))
        slugs: list[str] = []
        opened = []
        for folder in folders:
            slugs.append(_slug(folder, slugs))
            opened.append(OpenStudy(Study.load(folder), slug=slugs[-1], models=self.models))
        if (folder := settings.checkpoints) is not None:
            opened.append(OpenStudy.of_checkpoints(folder, slug=_slug(folder, slugs), models=self.models))
        return tuple(opened)

    def study(self, slug: str = "") -> OpenStudy:
        """The study that addresses call ``slug``; the first where they name none.

        Raises:
            ValueError: if there is none of that name.
        """
        if not slug:
            return self.studies[0]
        for opened in self.studies:
            if opened.slug == slug:
                return opened
        known = ", ".join(opened.slug for opened in self.studies)
        raise ValueError(f"There is no study “{printable(slug, LONGEST_SLUG)}” here: expected one of {known}.")

    def add_payload(self, name: str, make: Callable[[OpenStudy], dict[str, Any]]) -> str:
        """Serve ``make(study)`` as JSON and return its URL, whose query names the study (``?study=SLUG``).

        ``make`` runs at every request (cache inside if it costs); a ManifestError or ValueError it raises is
        served as ``{"problem": "..."}``, which the screens show as a message.
        """
        if name in self.payloads:
            raise ValueError(f"payload {name!r} exists: expected a new name")
        self.payloads[name] = make
        return f"{PAYLOAD_ROUTE}/{name}.json"


def _slug(folder: Path, taken: list[str]) -> str:
    """The folder's name in lower-case letters, digits and hyphens, with a number where it is taken."""
    words = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")[:LONGEST_SLUG] or "study"
    numbered = (f"{words}-{number}" for number in range(2, len(taken) + 3))
    return next(slug for slug in (words, *numbered) if slug not in taken)
