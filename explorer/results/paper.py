"""The numbers of Ding et al. (2024), as ``assets/paper`` has them."""

from __future__ import annotations

from typing import Any

from explorer.core.bounded_files import load_json
from explorer.core.intervals import pearson_correlation
from explorer.core.provenance import ROOT

FOLDER = ROOT / "assets" / "paper"
TABLES = (1, 2, 3, 4, 5, 6)
FILTERED_POISON, FILTERED_BENIGN = 0.5, 0.21
"""Figure 9a and section 6: dropping so much of the poison by CLIP alignment drops so much of the benign pairs."""


def paper_table(number: int) -> dict[str, Any]:
    """Table 1 to 6: ``source``, ``label``, ``definitions`` and ``rows``."""
    return load_json(FOLDER / f"table{number}.json")


def rows(number: int, **values: Any) -> list[dict[str, Any]]:
    """The rows of a table that have these values."""
    return [row for row in paper_table(number)["rows"] if all(row.get(name) == value for name, value in values.items())]


def clean_of_benign(found: list[dict[str, Any]], quantity: str = "accuracy") -> float:
    """Of rows in order of C_P: the clean concepts' share at the last, as a share of the first's, which is benign."""

    def clean(row: dict[str, Any]) -> float:
        return row[quantity]["clean"] if isinstance(row[quantity], dict) else row[quantity]

    return clean(found[-1]) / clean(found[0])


def correlation_with_difficulty(found: list[dict[str, Any]]) -> float:
    """Pearson's r of AD and utility over rows of a table."""
    return pearson_correlation([row["ad"] for row in found], [row["utility"] for row in found]).value


def dirty_label() -> list[dict[str, Any]]:
    """Table 1's benign row and its dirty-label ones, by C_P."""
    return rows(1, poison="benign") + rows(1, poison="dirty-label")


def clean_label() -> list[dict[str, Any]]:
    """Table 1's benign row and its clean-label ones, by C_P."""
    return rows(1, poison="benign") + rows(1, poison="clean-label")
