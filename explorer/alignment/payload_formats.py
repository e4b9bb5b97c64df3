"""The files that the screens *Graphs* and *Alignment difficulty* draw; whoever reads them need not load torch."""

from __future__ import annotations

from explorer.core.payload_format import PayloadFormat

THUMBNAILS_NAME = "thumbnails.png"
COLUMNS_NAME = "columns.bin"
"""Holds a folder a set, each with a header, its columns and, where pictures could be read, thumbnails."""
ALIGNMENT = PayloadFormat(
    name="alignment.json", version=1, fields=("sets",),
    entries={"sets": ("name", "poisoned_concept_count", "poison_recorded", "data_hash", "alignment_difficulty",
                      "moments", "mean_offset", "distributions")},
)  # fmt: skip
GRAPHS = PayloadFormat(
    name="graphs.json", version=2,
    fields=("set", "facts", "sampling", "layout", "neighbour_count", "scores", "measured", "concepts",
            "thumbnails", "columns"),
)  # fmt: skip
