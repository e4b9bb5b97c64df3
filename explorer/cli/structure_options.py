"""The options of ``explorer ad`` and ``explorer ad-store`` that say what is measured and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from explorer.alignment.landmarks import read_landmarks
from explorer.alignment.neighbourhoods import LocalRequest
from explorer.alignment.scores import check_scores_path
from explorer.alignment.structure.plan import StructureRequest
from explorer.cli.requests import Spelling

if TYPE_CHECKING:
    from explorer.alignment.landmarks import LandmarkList


@dataclass(frozen=True, kw_only=True)
class AlignmentOptions:
    """Alignment Difficulty: how it is composed, how its structure distances are computed, and what is kept of it."""

    alpha: float = 0.8
    """Weight of feature AD, 0 to 1."""
    convention: str = "authors"
    """Structure distance: ``authors`` or ``halved``."""
    structure: Annotated[StructureRequest, Spelling(estimator=typer.Option("auto"), precision=typer.Option("fp32"))] = (
        field(default_factory=StructureRequest)
    )
    """How structure distances are computed."""
    local: LocalRequest = field(default_factory=LocalRequest)
    """Which neighbourhoods local AD is measured over."""
    landmarks: Path | None = None
    """Text file of trusted pairs, a row number or a uid a line, that estimator ``landmarks`` draws from."""
    landmark_rows: Path | None = None
    """The same, whose lines are row numbers, counted from 0."""
    landmark_uids: Path | None = None
    """The same, whose lines are uids, be they numbers."""
    scores: Path | None = None
    """New .parquet file for every pair's feature distance, structure distance D_s and AD(x, y)."""

    def __post_init__(self) -> None:
        if self.scores is not None:
            check_scores_path(self.scores)

    def arguments(self) -> dict[str, Any]:
        """As ``measure`` and ``measure_store`` take them, but for the convention and the neighbourhoods."""
        return {"alpha": self.alpha, "request": self.structure, "landmarks": self.trusted_landmarks()}

    def trusted_landmarks(self) -> LandmarkList | None:
        """The landmarks that the file of one of the three options names; None without a file, for all pairs.

        Raises:
            ValueError: if several files are given, or as ``read_landmarks``.
        """
        files = ((self.landmarks, None), (self.landmark_rows, False), (self.landmark_uids, True))
        given = [(path, by_uid) for path, by_uid in files if path is not None]
        if len(given) > 1:
            raise ValueError("expected one of --landmarks, --landmark-rows and --landmark-uids")
        return read_landmarks(*given[0]) if given else None
