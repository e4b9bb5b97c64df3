"""What a study has stored that the paper has numbers of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from explorer.core.bounded_files import parse_json
from explorer.core.intervals import Estimate, normal_interval, pearson_correlation, ratio_of_means
from explorer.core.poison_record import PoisonRecord
from explorer.core.provenance import ManifestError
from explorer.defence.payload_formats import FILTERS as FILTERS_FORMAT
from explorer.evaluation.config import EVALUATION_NAME
from explorer.evaluation.summary import concepts_known, known_benign
from explorer.evaluation.training_runs import summarise_runs, untargeted_concepts
from explorer.results.further_runs import further_runs
from explorer.studies.arms import arm_checkpoint, arm_poison
from explorer.studies.results import EVALUATION, FILTERS, RETRAINED, result_file
from explorer.studies.retrained_results import retrained_results
from explorer.studies.study import Study

UNTARGETED = "unpoisoned"
"""What ``evaluation.json`` calls the concepts that no poison of any arm aims at."""
SAME_CONTROL = ("weights", "per_concept")
"""What is alike of two controls that are one, drawn and judged alike."""
SAME_DRAWING = ("prompt", "seeds", "steps", "guidance_scale", "tau")
DIRTY_LABEL, CLEAN_LABEL, MISLABELLED, RELABELLED = "dirty-label", "clean-label", "mislabelled", "relabelled"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A study's stored results; what is missing is said in ``problems`` by the step's name."""

    poison: dict[str, PoisonRecord]
    """Of every arm."""
    evaluation: dict[str, Any] | None
    """``evaluation.json``."""
    retrained: dict[str, Any] | None
    """``retrained.json``."""
    scores: dict[str, list[dict[str, Any]]]
    """By arm: the filters' scores with their grades."""
    families: dict[str, str] = field(default_factory=dict)
    """Of the arms whose checkpoints are at hand."""
    runs: dict[str, Any] | None = None
    """Several training runs, as ``training-runs`` summarises them."""
    problems: dict[str, str] = field(default_factory=dict)
    further: tuple[tuple[dict[str, Any], PoisonRecord], ...] = ()
    """Models of studies beside it that were measured against the same control, with their poison."""

    @staticmethod
    def of(study: Study, evaluations: Sequence[Path] = ()) -> Measured:
        """Read what is done.

        Args:
            evaluations: ``evaluation.json`` of two or more training runs of the study's recipe, in place of those
                that the study names.

        Raises:
            ValueError: as :func:`summarise_runs`.
        """
        problems: dict[str, str] = {}

        def read(step: str, reader: Any) -> Any:
            try:
                return reader()
            except ManifestError as error:
                problems[step] = str(error)
                return None

        names = [arm.name for arm in study.arms]
        checkpoints = {arm.name: arm_checkpoint(arm) for arm in study.arms if arm.checkpoint}
        found = {name: read(FILTERS, lambda name=name: _scores(study, name)) for name in names}
        runs, lacking = (summarise_runs(evaluations), "") if evaluations else further_runs(study)
        if lacking:
            problems["runs"] = lacking
        return Measured(
            poison={
                arm.name: checkpoints[arm.name].poison if arm.checkpoint else arm_poison(arm, None)
                for arm in study.arms
            },
            evaluation=read(EVALUATION, lambda: _json(study, EVALUATION, EVALUATION_NAME)),
            retrained=read(RETRAINED, lambda: retrained_results(study)),
            families={name: checkpoint.family for name, checkpoint in checkpoints.items()},
            scores={name: scores for name, scores in found.items() if scores is not None},
            runs=runs, problems=problems,
        )  # fmt: skip

    def with_models_of(self, others: Sequence[Measured]) -> Measured:
        """The same with the ``further`` models of other studies whose control has the weights of this one's and whose
        pictures were drawn alike; a model that is there already, by its weights, is no other one."""
        control, seen, further = self._control(), set(), []
        if control is None or control.get("weights") is None:
            return self
        seen = {model["weights"] for model in self.evaluation["models"]}
        for other in others:
            theirs = other._control()
            if theirs is None or any(theirs.get(name) != control[name] for name in SAME_CONTROL) or any(
                other.evaluation.get(name) != self.evaluation.get(name) for name in SAME_DRAWING
            ):  # fmt: skip
                continue
            for model in other.evaluation["models"]:
                record = other.poison.get(model["name"])
                if model.get("weights") is not None and model["weights"] not in seen and record is not None:
                    further.append((model, record))
                    seen.add(model["weights"])
        return replace(self, further=tuple(further))

    @property
    def noises(self) -> int:
        """How many pictures there are of a concept; 0 without an evaluation."""
        return 0 if self.evaluation is None else len(self.evaluation["seeds"])

    def _control(self) -> dict[str, Any] | None:
        models = [] if self.evaluation is None else self.evaluation["models"]
        return next((model for model in models if known_benign(model)), None)

    def models(self, kind: str, *, several: bool = True, further: bool = False) -> list[dict[str, Any]]:
        """Of the evaluation the control, and by C_P the models whose poison is recorded to be of a kind and to aim at
        several concepts (or at one); none without a control. How many a poison aims at may be unknown.

        Args:
            further: with those of studies beside it that share its control.
        """
        models = [] if self.evaluation is None else self.evaluation["models"]
        if (control := self._control()) is None:
            return []
        known = [(model, self.poison.get(model["name"])) for model in models] + [*(self.further if further else ())]
        poisoned = [
            model
            for model, record in known
            if record is not None and record.kind == kind
            and (count := model["poisoned_concept_count"]) and (count > 1) == several
        ]  # fmt: skip
        return [control, *sorted(poisoned, key=lambda model: model["poisoned_concept_count"])]

    def untargeted(self, *models: dict[str, Any]) -> list[str]:
        """The concepts outside the pool that poison of none of these models aims at, and no other's, by name. None of
        them where it is not recorded what one of these aims at."""
        if not all(map(concepts_known, models)):
            return []
        aimed = {name for model in models for name in model["poisoned_concepts"]}
        return [name for name in untargeted_concepts(self.evaluation) if name not in aimed]

    def lacking(self, models: str) -> str:
        """What a comparison of concepts that no poison aims at takes: these models, and such concepts where the study's
        list has none, or a control that draws some of them."""
        if self.evaluation is None:
            return models
        if not (names := untargeted_concepts(self.evaluation)):
            return (
                f"{models}, and concepts that no poison aims at: every one of the study's list is in the pool or "
                "poisoned"
            )
        control = self._control()
        if control is None or any(control["per_concept"][name] for name in names):
            unknown = [model["name"] for model in self.evaluation["models"] if not concepts_known(model)]
            return f"{models}, and a record of which concepts {', '.join(unknown)} poisons" if unknown else models
        drawn = f"a control that draws some of the concepts that no poison aims at: {control['name']} draws none"
        return f"{models}, and {drawn}"

    def family(self, model: dict[str, Any]) -> str | None:
        """Of a model of the evaluation; evaluations of earlier releases do not say it, but the checkpoint does."""
        return model.get("family") or self.families.get(model["name"])


def share_of(measured: Measured, model: dict[str, Any], other: dict[str, Any]) -> Estimate | None:
    """Accuracy on concepts that no poison of either aims at, as a share of the other's; the interval is over concepts.
    None where there are no such concepts, or the other draws none of them."""
    names = measured.untargeted(other, model)
    shares = [[each["per_concept"][name] for name in names] for each in (model, other)]
    return ratio_of_means(*shares) if sum(shares[1]) else None


def class_share(model: dict[str, Any], control: dict[str, Any], names: Sequence[str]) -> Estimate | None:
    """What the classifier takes for these concepts, as a share of the control's; the interval is over them. None where
    it knows none of them, or finds none in the control's pictures."""
    known = [name for name in names if control["classifier_per_concept"].get(name) is not None]
    shares = [[each["classifier_per_concept"][name] for name in known] for each in (model, control)]
    return ratio_of_means(*shares) if sum(shares[1]) else None


def clean_class_share(control: dict[str, Any], poisoned: Sequence[dict[str, Any]]) -> tuple[Estimate | None, int]:
    """What the classifier takes for the classes that a model's poison does not aim at, as a share of the control's, and
    how many there are: of the last of the models, by C_P, that has such classes."""
    found, count = None, 0
    for model in poisoned:
        kept = [name for name in control["classifier_per_concept"] if name not in model["poisoned_concepts"]]
        if kept:
            found, count = class_share(model, control, kept), len(kept)
    return found, count


def difference(
    first: dict[str, Any] | None, second: dict[str, Any] | None, noises: int, concepts: int | None
) -> tuple[Estimate | None, str]:
    """first - second of two numbers with intervals over the same concepts, or prompts, taken as independent: the
    interval is rather too wide, and its bounds are NaN where either has none. Evaluations of earlier releases have
    those over noises alone, which are the same for all concepts.

    Args:
        concepts: how many there are; None of what is over prompts.

    Returns:
        None where either was not measured; and what the interval is over.
    """
    if first is None or second is None:
        return None, ""
    by_concept = all((each.get("over_concepts") or {}).get("low") is not None for each in (first, second))
    bounds = [each["over_concepts"] if by_concept else each for each in (first, second)]
    reach = np.nan
    if all(each.get("low") is not None for each in bounds):
        reach = float(np.hypot(*(each["high"] - each["low"] for each in bounds))) / 2
    value = first["mean"] - second["mean"]
    over = f"{noises} noises" if not by_concept else "prompts" if concepts is None else f"{concepts} concepts"
    return Estimate(value=value, low=value - reach, high=value + reach, n=noises), over


def ratio(first: dict[str, Any] | None, second: dict[str, Any] | None, n: int) -> Estimate | None:
    """first / second of two means over the same ``n`` concepts, taken as independent: the interval is rather too wide,
    and its bounds are NaN where either has none. None where either was not measured, or second is 0."""
    if None in (first, second) or not second["mean"]:
        return None
    value, reach = first["mean"] / second["mean"], np.nan
    bounds = [each["over_concepts"] for each in (first, second)]
    if not any(each is None or each["low"] is None for each in bounds):
        spread = [(each["high"] - each["low"]) / 2 for each in bounds]
        reach = float(np.hypot(spread[0], value * spread[1])) / second["mean"]
    return Estimate(value=value, low=value - reach, high=value + reach, n=n)


def structure_difference(model: dict[str, Any], control: dict[str, Any]) -> Estimate | None:
    """Structure AD of a model's pairs less the control's, with an interval over pairs."""
    both = [model["alignment_difficulty"], control["alignment_difficulty"]]
    if None in both:
        return None
    errors = [each["structure_ad_standard_error"] for each in both]
    return normal_interval(both[0]["structure_ad"] - both[1]["structure_ad"], float(np.hypot(*errors)), n=both[0]["n"])


def correlation_with_difficulty(models: Sequence[dict[str, Any]], quantity: str = "utility") -> Estimate | None:
    """Pearson's r of AD and a quantity on concepts that no poison aims at, over models; None below three or
    where one of both is the same for all."""
    known = [model for model in models if model["alignment_difficulty"] and model[quantity][UNTARGETED]]
    series = ([model["alignment_difficulty"]["ad"] for model in known],
              [model[quantity][UNTARGETED]["mean"] for model in known])  # fmt: skip
    if len(known) < 3 or any(len(set(values)) < 2 for values in series):
        return None
    return pearson_correlation(*series)


def _scores(study: Study, arm: str) -> list[dict[str, Any]]:
    path = result_file(study, FILTERS, f"{arm}/{FILTERS_FORMAT.name}")
    return FILTERS_FORMAT.checked(parse_json(path.read_bytes()), "Run the step filters again.")["scores"]


def _json(study: Study, step: str, name: str) -> dict[str, Any]:
    return parse_json(result_file(study, step, name).read_bytes())
