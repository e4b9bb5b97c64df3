"""The files that the screens *Graphs* and *Alignment difficulty* draw; whoever reads them need not load torch."""

from __future__ import annotations

from explorer.core.payload_format import PayloadFormat

THUMBNAILS_NAME = "thumbnails.png"
ALIGNMENT = PayloadFormat(
    name="alignment.json", version=1, fields=("sets",),
    entries={"sets": ("name", "poisoned_concept_count", "poison_recorded", "data_hash", "alignment_difficulty",
                      "moments", "mean_offset", "distributions")},
)  # fmt: skip
GRAPHS = PayloadFormat(
    name="graphs.json", version=1,
    fields=("set", "extractor", "alpha", "convention", "feature_range", "sampling", "neighbour_count", "thumbnails",
            "samples", "text", "image", "movers"),
)  # fmt: skip
