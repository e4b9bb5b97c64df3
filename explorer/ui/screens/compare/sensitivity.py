"""The sensitivity of a picture that the page shows, measured when somebody asks: one word, one step, one batch.

A page asks for step after step, so that it can tell how far it is, end at once, and leave the models to others between
two steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from explorer.ui.screens.compare.payload import precomputed_columns, sensitivity_payload

if TYPE_CHECKING:
    from explorer.generation.columns import ComparisonColumn
    from explorer.ui.screens.compare.live_generation import LiveGeneration
    from explorer.ui.shell.open_study import OpenStudy


def measured_sensitivity(
    live: LiveGeneration, opened: OpenStudy, *, token: str, model: str, word: int, step: int
) -> dict[str, Any]:
    """What a word changes at one step, as ``sensitivity_payload`` has it. Waits for its turn with the models.

    Args:
        opened: the study that the page shows.
        token: of a live result; empty for a column of the study's comparison.
        model: of that column.
        word: index among the column's words.
        step: from 0.

    Raises:
        ValueError: in words for whoever asked, if there is no such picture, or its model, word or step cannot be used.
    """
    if token:
        opened, column = live.results.drawn(token)
    else:
        column = _precomputed(opened, model)
    return live.context.models.do(lambda: _measured(live, opened, column, word, step))


def _precomputed(opened: OpenStudy, model: str) -> ComparisonColumn:
    columns = {column.model: column for column in precomputed_columns(opened)}
    if model not in columns:
        raise ValueError(f"The comparison has no column of {model!r}: expected one of {', '.join(columns)}.")
    return columns[model]


def _measured(
    live: LiveGeneration, opened: OpenStudy, column: ComparisonColumn, word: int, step: int
) -> dict[str, Any]:
    from explorer.generation.sensitivity import column_sensitivity

    pipeline = live.pipeline(opened, column.model)
    return sensitivity_payload(column_sensitivity(pipeline, column, word, [step]))
