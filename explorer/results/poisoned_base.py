"""AD of a base that is already poisoned, which Ding et al. (2024, section 4.4) leave open: a proposal, held against
what models drew that were trained on with other pairs, benign or poisoned.

The proposal is *AD of the history*: of all pairs that the model was trained on, the base's and the later ones. It is
taken as the mean of the two sets' AD by their numbers of pairs, in which AD is linear in its feature part, and nearly
so here in its structure part. Training forgets, so that a later pair may count more than once; how many times is
fitted to some models and tried on others. A line of accuracy on AD over models whose base was benign then predicts
the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, linear_regression
from typing import Any

from explorer.core.markdown import literal
from explorer.results import paper
from explorer.results.measured import DIRTY_LABEL, UNTARGETED, Measured

WEIGHTS = tuple(1 + step / 10 for step in range(491))
"""That are tried for later pairs, beside 1 for the base's: 1 to 50."""
TOLERANCE = 1e-9
"""Accuracies that differ by less are one."""
RECOVERED = "recovered"
"""What a model is called that was trained on with benign pairs, to recover it (Table 6)."""


@dataclass(frozen=True, kw_only=True)
class Later:
    """A model that another one was trained on to."""

    name: str
    base: tuple[float, float]
    """AD of the pairs of the model that it was, and that one's accuracy."""
    later: float
    """AD of the later pairs."""
    share: float
    """Number of the later pairs, of the base's."""
    accuracy: float
    """On concepts that no poison aims at."""

    def history(self, weight: float = 1.0) -> float:
        """AD of the base's pairs and the later ones, each of which counts ``weight`` times."""
        return (self.base[0] + weight * self.share * self.later) / (1 + weight * self.share)


@dataclass(frozen=True, kw_only=True)
class Continued:
    """Models that were trained on, and the line that predicts them."""

    line: tuple[tuple[float, float], ...]
    """AD and accuracy of models whose base was benign, two different AD at least."""
    models: tuple[Later, ...]

    def at(self, difficulty: float) -> float:
        """What the line says."""
        slope, intercept = linear_regression(*zip(*self.line, strict=True))
        return intercept + slope * difficulty

    def predicted(self, weight: float = 1.0) -> list[float]:
        """Accuracy of each model by AD of the history."""
        return [self.at(model.history(weight)) for model in self.models]

    def error(self, predicted: Sequence[float]) -> float:
        """How far from what was measured, on average."""
        return fmean(abs(one - model.accuracy) for one, model in zip(predicted, self.models, strict=True))

    def fitted_weight(self) -> float | None:
        """What of :data:`WEIGHTS` brings the prediction nearest to these models; None where all are as near."""
        errors = {weight: self.error(self.predicted(weight)) for weight in WEIGHTS}
        return min(errors, key=errors.get) if max(errors.values()) - min(errors.values()) > TOLERANCE else None


def of_paper() -> Continued:
    """Table 6, whose model is the one of Table 1 with 500 clean-label concepts: the accuracies are the same."""
    line = tuple((row["ad"], row["accuracy"]["clean"]) for row in paper.clean_label())
    models = tuple(
        Later(name=RECOVERED, base=line[-1], later=line[0][0], share=row["share_of_pairs"],
              accuracy=row["accuracy"]["clean"])
        for row in paper.rows(6, model="recovered")
    )  # fmt: skip
    return Continued(line=line, models=models)


def of_study(measured: Measured) -> Continued | None:
    """A study's recoveries, and its arms that another one was trained on to; None where there is neither, or no AD of
    two models of a benign base."""
    models = [] if measured.evaluation is None else measured.evaluation["models"]
    by_weights = {model["weights"]: model for model in models if model.get("weights") is not None}
    later = {model["name"]: by_weights[start] for model in models
             if (start := model.get("start_weights")) in by_weights}  # fmt: skip
    line = {model["name"]: point for model in measured.models(DIRTY_LABEL)
            if model["name"] not in later and (point := _point(model)) is not None}  # fmt: skip
    if len({difficulty for difficulty, _ in line.values()}) < 2:
        return None
    arms = [_arm(model, later[model["name"]]) for model in models if model["name"] in later]
    found = (*_recovered(measured, line), *(each for each in arms if each is not None))
    return Continued(line=tuple(line.values()), models=found) if found else None


def _arm(model: dict[str, Any], base: dict[str, Any]) -> Later | None:
    """None where AD or accuracy of either was not measured."""
    points = [_point(each) for each in (model, base)]
    if None in points:
        return None
    counts = [each["alignment_difficulty"]["n"] for each in (model, base)]
    return Later(name=model["name"], base=points[1], later=points[0][0], share=counts[0] / counts[1],
                 accuracy=points[0][1])  # fmt: skip


def _recovered(measured: Measured, line: dict[str, tuple[float, float]]) -> list[Later]:
    """Of the first arm of the line with recoveries."""
    arms = measured.retrained["arms"] if measured.retrained is not None else {}
    for name in arms:
        recovered = sorted((each["share"], accuracy) for each in arms[name]["recovery"]
                           if (accuracy := _accuracy(each)) is not None)  # fmt: skip
        # Drawn as the recoveries were, not as the evaluation.
        unfiltered = arms[name]["unfiltered"] and _accuracy(arms[name]["unfiltered"])
        if recovered and name in line and unfiltered is not None:
            base, benign = (line[name][0], unfiltered), next(iter(line.values()))[0]
            return [Later(name=RECOVERED, base=base, later=benign, share=share, accuracy=accuracy)
                    for share, accuracy in recovered]  # fmt: skip
    return []


def _point(model: dict[str, Any]) -> tuple[float, float] | None:
    """AD and accuracy."""
    if not model["alignment_difficulty"] or not model["accuracy"][UNTARGETED]:
        return None
    return model["alignment_difficulty"]["ad"], model["accuracy"][UNTARGETED]["mean"]


def _accuracy(model: dict[str, Any]) -> float | None:
    found = model["metrics"]["top1"].get(UNTARGETED)
    return None if found is None else found["mean"]


def table(cases: dict[str, Continued]) -> str:
    """Markdown, by whose models they are: a row for each model, and below the mean errors. Weights are those that fit
    the models of the other cases."""
    heads = ("models", "later pairs, of the base's", "AD of the history", "predicted by it", "later pairs weighted",
             "by AD of the later pairs alone", "the base's own", "measured")  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    for whose, case in cases.items():
        fitted = [other.fitted_weight() for name, other in cases.items() if name != whose]
        weights = [each for each in fitted if each is not None]
        weight = fmean(weights) if weights else None
        columns = [case.predicted(), None if weight is None else case.predicted(weight),
                   [case.at(model.later) for model in case.models],
                   [model.base[1] for model in case.models]]  # fmt: skip
        for place, model in enumerate(case.models):
            shown = [model.history(), *(None if each is None else each[place] for each in columns), model.accuracy]
            called = whose if model.name == RECOVERED else f"{whose}: {literal(model.name)}"
            lines.append(f"| {called} | {model.share:.2f} | {' | '.join(map(_number, shown))} |")
        errors = [None if each is None else case.error(each) for each in columns]
        told = "" if weight is None else f" (a later pair counts {weight:.1f} times, as fits the others)"
        lines.append(f"| {whose}: mean error{told} | | | {' | '.join(map(_number, errors))} | |")
    return "\n".join(lines)


def on_poisoned_bases(case: Continued | None) -> str:
    """Markdown of the paper's models and a study's, with a heading; the paper's alone where the study has none."""
    cases = {"the paper's (Table 6)": of_paper()} | ({} if case is None else {"here": case})
    return f"### AD of a base that is already poisoned\n\n{table(cases)}"


def report(case: Continued | None) -> dict[str, Any] | None:
    """As JSON: what is known, predicted and fitted; None without a case. ``weighted`` counts a later pair as often as
    fits the paper's models, which are other ones (``papers_weight``)."""
    if case is None:
        return None
    weight, fitted = of_paper().fitted_weight(), case.fitted_weight()
    weighted = case.predicted(weight)
    models = zip(case.models, case.predicted(), weighted, strict=True)
    return {
        "models": [{"name": model.name, "share": model.share, "base": {"ad": model.base[0], "accuracy": model.base[1]},
                    "ad_of_later_pairs": model.later, "history_ad": model.history(), "predicted": predicted,
                    "weighted": more, "measured": model.accuracy}
                   for model, predicted, more in models],
        "mean_error": case.error(case.predicted()),
        "papers_weight": weight, "mean_error_weighted": case.error(weighted),
        "fitted_weight": fitted,
        "mean_error_of_fit": None if fitted is None else case.error(case.predicted(fitted)),
    }  # fmt: skip


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
