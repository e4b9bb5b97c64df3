"""AD of a base that is already poisoned, which Ding et al. (2024, section 4.4) leave open: a proposal, held against
what poisoned models drew that were trained on with benign pairs.

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

from explorer.results import paper
from explorer.results.measured import DIRTY_LABEL, UNTARGETED, Measured

WEIGHTS = tuple(1 + step / 10 for step in range(491))
"""That are tried for later pairs, beside 1 for the base's: 1 to 50."""


@dataclass(frozen=True, kw_only=True)
class Continued:
    """A poisoned model that was trained on with benign pairs. Accuracy is on concepts that no poison aims at."""

    line: tuple[tuple[float, float], ...]
    """AD and accuracy of models whose base was benign, two different AD at least."""
    base: tuple[float, float]
    """AD and accuracy of the poisoned model."""
    later: float
    """AD of the benign pairs."""
    recovered: tuple[tuple[float, float], ...]
    """Of each model the later pairs, as a share of the base's, and its accuracy."""

    def history(self, share: float, weight: float = 1.0) -> float:
        """AD of the base's pairs and ``share`` times as many later ones, each of which counts ``weight`` times."""
        return (self.base[0] + weight * share * self.later) / (1 + weight * share)

    def at(self, difficulty: float) -> float:
        """What the line says."""
        slope, intercept = linear_regression(*zip(*self.line, strict=True))
        return intercept + slope * difficulty

    def predicted(self, weight: float = 1.0) -> list[float]:
        """Accuracy of each model by AD of the history."""
        return [self.at(self.history(share, weight)) for share, _ in self.recovered]

    def error(self, predicted: Sequence[float]) -> float:
        """How far from what was measured, on average."""
        return fmean(abs(one - accuracy) for one, (_, accuracy) in zip(predicted, self.recovered, strict=True))

    def fitted_weight(self) -> float:
        """What of :data:`WEIGHTS` brings the prediction nearest to these models."""
        return min(WEIGHTS, key=lambda weight: self.error(self.predicted(weight)))


def of_paper() -> Continued:
    """Table 6, whose model is the one of Table 1 with 500 clean-label concepts: the accuracies are the same."""
    line = tuple((row["ad"], row["accuracy"]["clean"]) for row in paper.clean_label())
    recovered = tuple((row["share_of_pairs"], row["accuracy"]["clean"]) for row in paper.rows(6, model="recovered"))
    return Continued(line=line, base=line[-1], later=line[0][0], recovered=recovered)


def of_study(measured: Measured) -> Continued | None:
    """The first arm of a study with recoveries; None where there is none, or no AD of two models."""
    models = {model["name"]: (model["alignment_difficulty"]["ad"], model["accuracy"][UNTARGETED]["mean"])
              for model in measured.models(DIRTY_LABEL)
              if model["alignment_difficulty"] and model["accuracy"][UNTARGETED]}  # fmt: skip
    line = tuple(models.values())
    arms = measured.retrained["arms"] if measured.retrained is not None else {}
    for name in arms if len({difficulty for difficulty, _ in line}) > 1 else ():
        recovered = sorted((each["share"], accuracy) for each in arms[name]["recovery"]
                           if (accuracy := _accuracy(each)) is not None)  # fmt: skip
        # Drawn as the recoveries were, not as the evaluation.
        unfiltered = arms[name]["unfiltered"] and _accuracy(arms[name]["unfiltered"])
        if recovered and name in models and unfiltered is not None:
            base = (models[name][0], unfiltered)
            return Continued(line=line, base=base, later=line[0][0], recovered=tuple(recovered))
    return None


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
        weights = [other.fitted_weight() for name, other in cases.items() if name != whose]
        weight = fmean(weights) if weights else None
        columns = [case.predicted(), None if weight is None else case.predicted(weight),
                   [case.at(case.later)] * len(case.recovered), [case.base[1]] * len(case.recovered)]  # fmt: skip
        for place, (share, accuracy) in enumerate(case.recovered):
            shown = [case.history(share), *(None if each is None else each[place] for each in columns), accuracy]
            lines.append(f"| {whose} | {share:.2f} | {' | '.join(map(_number, shown))} |")
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
    weight = of_paper().fitted_weight()
    weighted = case.predicted(weight)
    models = zip(case.recovered, case.predicted(), weighted, strict=True)
    return {
        "base": {"ad": case.base[0], "accuracy": case.base[1]}, "ad_of_later_pairs": case.later,
        "models": [{"share": share, "history_ad": case.history(share), "predicted": predicted, "weighted": more,
                    "measured": accuracy}
                   for (share, accuracy), predicted, more in models],
        "mean_error": case.error(case.predicted()),
        "papers_weight": weight, "mean_error_weighted": case.error(weighted),
        "fitted_weight": case.fitted_weight(),
        "mean_error_of_fit": case.error(case.predicted(case.fitted_weight())),
    }  # fmt: skip


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
