"""One of the paper's tables or figures beside this study: what it says in numbers that need no common scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from explorer.core.intervals import Estimate

AGREES, DISAGREES, NOT_TOLD, NOT_COMPARABLE, NOT_DONE = (
    "agrees", "disagrees", "not told apart", "not comparable", "not done"
)  # fmt: skip
MOST = "clean accuracy at the largest C_P, of the control's"
BELOW_ONE = (-math.inf, 1.0)
BELOW_ZERO, ABOVE_ZERO = (-math.inf, 0.0), (0.0, math.inf)


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One number of the paper, what the paper concludes from it, and the same number here."""

    what: str
    """In words, as ``clean accuracy at the largest C_P, of the control's``."""
    claim: tuple[float, float]
    """Where the paper says it lies, as (low, high); infinite where it names no bound, and then the other bound, where
    nothing changes, is no part of it."""
    paper: float | None = None
    """The paper's number; None where it shows pictures and prints none."""
    here: Estimate | None = None
    """This study's, with its interval; None where it was not measured."""
    over: str = ""
    """What the interval is over, as ``60 nouns``."""
    unknown: str = ""
    """Why there is no number though the work was done, as that nothing was recovered of which it would be a share."""
    differs: str = ""
    """Why this number does not answer the paper's claim, where it was measured."""

    @property
    def verdict(self) -> str:
        """``agrees`` where the whole interval is where the paper says, ``disagrees`` where none of it is, else
        ``not told apart``; without an interval or a number nothing is told."""
        if self.here is None:
            return NOT_TOLD if self.unknown else NOT_DONE
        low, high = self.here.low, self.here.high
        if math.isnan(low) or math.isnan(high):
            return NOT_TOLD
        least, most = self.claim
        one_sided = math.isinf(least) or math.isinf(most)
        if (least < low and high < most) or (not one_sided and least <= low and high <= most):
            return AGREES
        return DISAGREES if high < least or low > most else NOT_TOLD


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A table or figure of Ding et al. (2024), by its number, and what the study has of it."""

    name: str
    """As ``Table 1, dirty-label``."""
    about: str
    """In a sentence: what the paper did and concludes."""
    quantities: tuple[Quantity, ...]
    differs: str = ""
    """Why the study's number does not answer the paper's claim though it was measured."""
    missing: str = ""
    """What would have to be done, where it was not."""
    study: str = ""
    """The further study that measured it; empty for the study itself."""
    rows: tuple[dict[str, Any], ...] = ()
    """Of the table, by the names of its columns, as :mod:`~explorer.results.table_rows` has them."""

    @property
    def done(self) -> bool:
        """Whether anything of it was measured, even if no number came of it."""
        return any(quantity.here is not None or quantity.unknown for quantity in self.quantities)

    def verdict(self, quantity: Quantity) -> str:
        """What is told by one of ``quantities``; nothing where what was measured does not answer the paper's claim."""
        differs = self.differs or quantity.differs
        return NOT_COMPARABLE if differs and quantity.here is not None else quantity.verdict

    def report(self) -> dict[str, Any]:
        """As JSON: unbounded claims and unknown bounds are null."""

        def told(here: Estimate | None) -> dict[str, Any] | None:
            return None if here is None else {name: _finite(value) for name, value in asdict(here).items()}

        return {
            "name": self.name, "about": self.about, "differs": self.differs if self.done else "",
            "missing": "" if self.done else self.missing, "study": self.study, "rows": list(self.rows),
            "quantities": [
                {"what": each.what, "paper": each.paper, "here": told(each.here), "over": each.over,
                 "unknown": each.unknown, "differs": each.differs, "verdict": self.verdict(each),
                 "claim": [_finite(bound) for bound in each.claim]}
                for each in self.quantities
            ],
        }  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def largest_of(models: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of a control and the models of an attack by C_P, those of the largest; none where there is but the control."""
    return [each for each in models[1:] if each["poisoned_concept_count"] == models[-1]["poisoned_concept_count"]]


def which(model: dict[str, Any] | None, models: Sequence[dict[str, Any]]) -> str:
    """The model's name, where several have the largest C_P, so that it is not told by that."""
    return f", {model['name']}" if model is not None and len(largest_of(models)) > 1 else ""


def estimate(stored: dict[str, float | None], n: int) -> Estimate:
    """From JSON (``value``, ``low``, ``high``), whose unknown bounds are null."""
    known = {name: math.nan if value is None else value for name, value in stored.items()}
    return Estimate(**known, n=n)
