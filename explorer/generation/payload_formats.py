"""The files that the screens *Compare* and *Implosion* draw; whoever reads them need not load torch."""

from __future__ import annotations

from explorer.core.payload_format import PayloadFormat

COMPARISON = PayloadFormat(name="index.json", version=2, fields=("columns",))
FILM_KINDS = ("images", "maps", "guidance")
"""What a cell of a film strip shows; of each kind there is a sheet of its name."""
# Strips of earlier releases have neither tau, nor a rank in their cells, nor guidance maps.
FILM_STRIP = PayloadFormat(
    name="film_strip.json", version=1,
    fields=("cell", "seed", "steps", "guidance_scale", "map_scale", "concepts", "models"),
    entries={
        "concepts": ("concept", "poisoned_from"),
        "models": ("name", "poisoned_concept_count", "cells"),
    },
)  # fmt: skip
