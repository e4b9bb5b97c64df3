"""The files that the screen *Defence* draws; whoever reads them need not load torch."""

from __future__ import annotations

from explorer.core.payload_format import PayloadFormat

FILTERS = PayloadFormat(
    name="filters.json", version=1, fields=("set", "concepts", "columns", "alignment", "scores"),
    entries={"scores": ("name", "title", "words", "remove", "unscored", "auc", "average_precision",
                        "at_half_the_poison", "provenance")},
)  # fmt: skip
RETRAINED = PayloadFormat(
    name="retrained.json", version=1,
    fields=("concepts", "drawn", "seeds", "tile", "control", "arms", "interval"),
    entries={"concepts": ("concept", "group")},
)  # fmt: skip
BLAME = PayloadFormat(
    name="blame", version=1,
    fields=("arm", "concept", "prompt", "mentioned_in", "models", "data_hash", "scores"),
    entries={"scores": ("name", "words", "measured", "poison_auc", "pairs")},
)  # fmt: skip
"""Of a concept, called by it."""
GRADED_BLAME = PayloadFormat(
    name="graded.json", version=1, fields=("concepts", "candidates", "left_out", "lists"),
    entries={"lists": ("name", "words", "top1", "less_random")},
)  # fmt: skip
