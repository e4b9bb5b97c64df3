"""The options of ``explorer ad`` and ``explorer ad-store`` that say how structure AD is computed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from explorer.alignment.landmarks import LandmarkList
    from explorer.alignment.structure.plan import StructureRequest

Estimator = Annotated[str, typer.Option(help="Structure AD: auto, exact, landmarks, rows or stratified.")]
Samples = Annotated[int | None, typer.Option(help="Rows an estimator draws; default: what fits.")]
Landmarks = Annotated[
    Path | None,
    typer.Option(help="Text file of trusted pairs, a row number or a uid a line, that estimator landmarks draws from."),
]
LandmarkRows = Annotated[Path | None, typer.Option(help="The same, whose lines are row numbers, counted from 0.")]
LandmarkUids = Annotated[Path | None, typer.Option(help="The same, whose lines are uids, be they numbers.")]
BudgetSeconds = Annotated[float | None, typer.Option(help="Seconds that structure AD may take.")]
BudgetMemory = Annotated[float | None, typer.Option(help="Gigabytes it may take beside the features, in each process.")]
Precision = Annotated[str, typer.Option(help="Operands of the products: fp16, fp32 or fp64.")]
Kernel = Annotated[str, typer.Option(help="auto (triton on CUDA), torch or triton.")]
Scores = Annotated[
    Path | None,
    typer.Option(help="New .parquet file for every pair's feature distance, structure distance D_s and AD(x, y)."),
]
StructureDevice = Annotated[str, typer.Option("--device", help="Where the products run: cpu or cuda.")]


def structure_request(*, budget_memory: float | None, **options: Any) -> StructureRequest:
    """What the options ask for; ``options`` are the other fields of the request, by their names.

    Args:
        budget_memory: in gigabytes.

    Raises:
        ValueError: naming an option that cannot be.
    """
    from explorer.alignment.structure.plan import StructureRequest

    return StructureRequest(budget_bytes=None if budget_memory is None else budget_memory * 1e9, **options)


def trusted_landmarks(either: Path | None, rows: Path | None, uids: Path | None) -> LandmarkList | None:
    """The landmarks that the file of one of the three options names; None without a file, for all pairs.

    Raises:
        ValueError: if several files are given, or as ``read_landmarks``.
    """
    from explorer.alignment.landmarks import read_landmarks

    given = [(path, by_uid) for path, by_uid in ((either, None), (rows, False), (uids, True)) if path is not None]
    if len(given) > 1:
        raise ValueError("expected one of --landmarks, --landmark-rows and --landmark-uids")
    return read_landmarks(*given[0]) if given else None
