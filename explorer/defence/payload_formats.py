"""The file that the screen *Defence* draws; whoever reads it need not load torch."""

from __future__ import annotations

from explorer.core.payload_format import PayloadFormat

FILTERS = PayloadFormat(
    name="filters.json", version=1, fields=("set", "concepts", "columns", "alignment", "scores"),
    entries={"scores": ("name", "title", "words", "remove", "unscored", "auc", "average_precision",
                        "at_half_the_poison", "provenance")},
)  # fmt: skip
