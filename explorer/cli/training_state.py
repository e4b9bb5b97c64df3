"""Where a training keeps its state unless ``--state`` names a folder."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import typer

from explorer.core.provenance import ROOT


def default_state(kind: str, out: Path) -> Path:
    """The state of what is written to ``out``: two models of one name in different folders do not share it. Of a state
    that an earlier release kept by the name alone it is said how to go on with it."""
    place = out.resolve()
    found = ROOT / "runs" / kind / f"{place.name}-{sha256(str(place).encode()).hexdigest()[:8]}"
    former = found.with_name(place.name)
    if former.exists() and not found.exists():
        typer.echo(f"note: the state is kept in {found}; to go on with {former}, give --state {former}", err=True)
    return found
