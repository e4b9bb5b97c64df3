"""Take in what a run of the GPU kit brought back: checked, its figures stored and shown, its models installed."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from explorer.benchmarks.gpu_kit import REPORT_NAME
from explorer.benchmarks.gpu_shards import unpack
from explorer.benchmarks.gpu_tables import gpu_section
from explorer.core.provenance import ROOT, check_files, read_manifest, write_json

BEGIN, END = "<!-- gpu rows: begin -->", "<!-- gpu rows: end -->"
"""What stands between them in the page is written anew."""
EVALUATION = "evaluation"


def take_in(
    folders: Sequence[Path],
    *,
    figures: Path = ROOT / "assets" / "benchmarks" / "gpu",
    page: Path = ROOT / "docs" / "benchmarks.md",
    models: Path = ROOT / "checkpoints" / "iconworld-full",
) -> dict[str, Any]:
    """Check what came back and put it where it belongs.

    Args:
        folders: each with the ``report.json`` of a run and all its shards; of a part that several ran the last counts.
        figures: gets one JSON a part; those of parts that these runs had no time for stay.
        page: a Markdown page whose part between two marks shows all figures.
        models: a new folder for the world's models; without shards none is made.

    Returns:
        JSON-serialisable: the card, the parts and how they ended, and the names of the models.

    Raises:
        FileNotFoundError: naming what is missing.
        ValueError: if a run was a rehearsal, two of them made a world, the shards or a model are not what was packed,
            the page lacks its marks, or ``models`` exists; then nothing is changed.
    """
    found, shards, home = merged(folders)
    text = page.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{page} must hold {BEGIN} and {END} once each")
    installed = _install(home, shards, models) if home is not None else []
    figures.mkdir(parents=True, exist_ok=True)
    for name, one in found.items():
        write_json(figures / f"{name}.json", one)
    stored = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in figures.glob("*.json")}
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{gpu_section(stored)}\n{END}{after}", encoding="utf-8")
    parts = {name: one["status"] for name, one in found.items()}
    return {"device": found.get("machine", {}).get("device"), "parts": parts, "models": installed}


def merged(folders: Sequence[Path]) -> tuple[dict[str, Any], dict[str, Any], Path | None]:
    """Each part's figures with the code version that ran it and how it ended, and the shards with the folder that holds
    them.

    Raises:
        ValueError: if a run was a rehearsal, or two of them made a world.
    """
    found: dict[str, Any] = {}
    shards: dict[str, Any] = {}
    home = None
    for folder in folders:
        report = json.loads((folder / REPORT_NAME).read_text(encoding="utf-8"))
        if report["smoke"]:
            raise ValueError(f"{folder} holds a smoke run: expected one with real settings")
        for name, part in report["parts"].items():
            own = {"code_version": report["code_version"], "status": part["status"]}
            found[name] = own | report["reports"].get(name, {})
        if report["shards"]["names"]:
            if home is not None:
                raise ValueError(f"{home} and {folder} both hold a world: expected one")
            home, shards = folder, report["shards"]
    return found, shards, home


def _install(folder: Path, shards: dict[str, Any], models: Path) -> list[str]:
    """Unpack beside ``models``, check every file against its manifest, then move at once; returns the models' names."""
    if models.exists():
        raise ValueError(f"{models} exists: expected a new folder for the models")
    models.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=models.parent, prefix=".") as scratch:
        unpack(folder, shards, Path(scratch))
        made = Path(scratch) / "models"
        names = sorted(path.name for path in made.iterdir())
        for name in names:
            check_files(made / name, read_manifest(made / name))
        if (evaluation := Path(scratch) / EVALUATION).is_dir():
            shutil.move(evaluation, made / EVALUATION)
        made.rename(models)
    return names
