"""All steps, in the order in which they are made; a new one is a file beside this and a line here."""

from __future__ import annotations

from explorer.studies.steps import (
    comparison,
    evaluation,
    film_strip,
    filters,
    graphs,
    meter,
    pictures,
    retrained,
    scores,
)
from explorer.studies.steps.step import Step

STEPS_BY_NAME: dict[str, Step] = {
    module.STEP.name: module.STEP
    for module in (scores, graphs, filters, pictures, evaluation, film_strip, comparison, retrained, meter)
}
