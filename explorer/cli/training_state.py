"""Where a training keeps its state unless ``--state`` names a folder."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from explorer.core.provenance import ROOT


def default_state(kind: str, out: Path) -> Path:
    """The state of what is written to ``out``: two models of one name in different folders do not share it."""
    place = sha256(str(out.absolute()).encode()).hexdigest()[:8]
    return ROOT / "runs" / kind / f"{out.name}-{place}"
