"""The comparisons as a Markdown table, and their place on a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from explorer.core.intervals import Estimate
from explorer.core.markdown import literal
from explorer.core.provenance import replacing
from explorer.results.comparison import Comparison, Quantity

BEGIN, END = "<!-- explorer results: begin -->", "<!-- explorer results: end -->"
HEADER = "| the paper's | in numbers without a common scale | paper | here | verdict |\n|---|---|---:|---|---|"


def markdown(comparisons: Sequence[Comparison]) -> str:
    """A table with a row for every quantity, and below it what the paper concludes and what is missing or differs."""
    rows = [
        f"| {'' if place else each.name} | {literal(quantity.what)} | {_paper(quantity)} | {_here(quantity)} | "
        f"{each.verdict(quantity)} |"
        for each in comparisons
        for place, quantity in enumerate(each.quantities)
    ]
    notes = [f"- **{each.name}**: {each.about}{_why(each)}" for each in comparisons]
    return "\n".join([HEADER, *rows, "", *notes])


def put_on_page(page: Path, text: str) -> None:
    """Put ``text`` between the two marks on a page, in place of what stands there.

    Raises:
        ValueError: if the page does not hold both marks, in this order.
    """
    found = page.read_text(encoding="utf-8")
    before, begin, rest = found.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(
            f"{page} lacks the marks {BEGIN} and {END}: expected both, in this order, on lines of their own"
        )
    with replacing(page) as part:
        part.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def _why(comparison: Comparison) -> str:
    if not comparison.done:
        return f" Not done: it takes {comparison.missing}."
    where = f" Measured in the study {literal(comparison.study)}." if comparison.study else ""
    return f"{where} Not comparable: {literal(comparison.differs)}." if comparison.differs else where


def _paper(quantity: Quantity) -> str:
    if quantity.paper is None:
        return "–" if quantity.differs else "pictures"
    return _number(quantity.paper)


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 0.01 and value else f"{value:.3f}"


def _here(quantity: Quantity) -> str:
    here = quantity.here
    if here is None:
        return f"none: {quantity.unknown}" if quantity.unknown else "–"
    return f"{_number(here.value)}{_bounds(here)}, over {literal(quantity.over)}"


def _bounds(here: Estimate) -> str:
    if math.isnan(here.low) or math.isnan(here.high):
        return ", no interval"
    return f" [{_number(here.low)}, {_number(here.high)}]"
