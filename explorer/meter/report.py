"""From readings to what ``meter.json`` says of every model: amplitudes, and their ratios to a reference's."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from explorer.core.intervals import mean_and_standard_error, t_interval
from explorer.core.poison_record import PoisonRecord, poisoned_from
from explorer.evaluation.summary import groups_of
from explorer.generation.predictors import NO_GUIDANCE
from explorer.meter.amplitudes import amplitude, common_part, cosines, noun_part
from explorer.meter.estimates import as_json, known, ratio
from explorer.meter.label_noise import label_noise
from explorer.meter.measurement import Reading
from explorer.meter.payload_formats import (
    COMMON_PART,
    COSINE,
    DENOISING_ERROR,
    GUIDANCE,
    METER,
    NOUN_PART,
    SENSITIVITY,
    WORD_BEFORE,
)
from explorer.meter.request import MeterRequest
from explorer.meter.shown import Shown
from explorer.pairs.concept_list import ConceptList

NO_SHARES = "it takes pairs that say which are poison and which concepts captions name, and a reference"
NO_WORD_BEFORE = "a prompt begins with its concept, so that no word stands before it"
NO_REFERENCE = "there is no reference"
OWN_PICTURES = "models are shown their own pictures, and directions compare on the same ones alone"
NO_PICTURE = "noise without a picture in it is not to be denoised to anything"
NO_DIRECTION = "a guidance vector is 0, which has no direction"
OTHER_KIND = "the reference is another kind of model or of another size: amplitudes compare within one"


@dataclass(frozen=True, kw_only=True)
class MeasuredModel:
    """One model and what was read."""

    name: str
    poison: PoisonRecord
    reading: Reading
    true_shares: np.ndarray | None = None
    """Of :func:`~explorer.meter.label_noise.true_shares`; None where its pairs are not known."""


def meter_report(
    models: list[MeasuredModel], concepts: ConceptList, request: MeterRequest, shown: Shown, reference: str | None
) -> dict[str, Any]:
    """What ``meter.json`` holds.

    A model's mean over timesteps is that of its amplitudes on the scale of noise. Intervals are 95 %, Student's over
    concepts; the ratio to the reference is of means, paired by concept
    (:func:`~explorer.core.intervals.ratio_of_means`). All are for one noise, these draws and one training run a model.

    Args:
        reference: name of one of the models; None for no ratios.
    """
    first_poisoned = poisoned_from(model.poison for model in models)
    compared = next((model.reading for model in models if model.name == reference), None)
    entries = []
    for model in models:
        members = groups_of(model.poison, concepts, first_poisoned)
        entry = _measures(model.reading, compared, members, shown, request.timesteps)
        entry["label_noise"] = _label_noise(entry["measures"], model, compared, members)
        if entry["label_noise"] is None:
            entry["not_measured"]["label_noise"] = NO_SHARES
        told = {"poisoned": model.poison.poisoned, "poisoned_concept_count": model.poison.concept_count}
        entries.append({"name": model.name, **told, **entry})
    facts = {name: value for name, value in asdict(request).items() if name in ("draws", "seed")}
    return METER.written(
        shown=shown.words, same_for_all=shown.same_for_all, timesteps=list(request.timesteps), **facts,
        precision=request.precision or "fp32", reference=reference, template=concepts.template,
        concepts=[{"concept": each.name, "group": each.group, "poisoned_from": first_poisoned.get(each.name)}
                  for each in concepts.concepts],
        models=entries,
    )  # fmt: skip


def _measures(
    reading: Reading, reference: Reading | None, members: dict[str, np.ndarray | None], shown: Shown,
    timesteps: tuple[int, ...],
) -> dict[str, Any]:  # fmt: skip
    """``measures`` and ``not_measured`` of one model."""
    values, without = _values(reading), {}
    if reading.guidance is None:
        without |= dict.fromkeys((GUIDANCE, NOUN_PART, COMMON_PART), NO_GUIDANCE)
    if reading.denoising_error is None:
        without[DENOISING_ERROR] = NO_PICTURE
    if WORD_BEFORE not in values:
        without[WORD_BEFORE] = NO_WORD_BEFORE
    comparable = reference is not None and reference.kind == reading.kind
    beside = _values(reference) if comparable else {}
    if reason := _no_cosine(reading, reference, shown):
        without[COSINE] = reason
    elif (directions := cosines(reading.guidance, reference.guidance)).isnan().any():
        without[COSINE] = NO_DIRECTION
    else:
        values[COSINE] = directions.numpy()
    if not comparable:
        without["relative"] = NO_REFERENCE if reference is None else OTHER_KIND
    draws = {SENSITIVITY: reading.sensitivity.numpy(), WORD_BEFORE: reading.word_before.numpy()}
    found = {
        measure: _summary(each, beside.get(measure), members, timesteps, draws.get(measure))
        for measure, each in values.items() if measure != COMMON_PART
    }  # fmt: skip
    if (common := values.get(COMMON_PART)) is not None:
        whole = _summary(common, beside.get(COMMON_PART), {"all": np.ones(1, bool)}, timesteps, None)
        found[COMMON_PART] = whole | {"per_concept": None, "relative": None}
    return {"measures": found, "not_measured": without}


def _values(reading: Reading) -> dict[str, np.ndarray]:
    """Amplitudes fp64 ``[T, n]`` of each measure; of the common part, which no concept has alone, ``[T, 1]``."""
    values = {SENSITIVITY: reading.sensitivity.mean(-1).numpy()}
    if not reading.word_before.isnan().any():
        values[WORD_BEFORE] = reading.word_before.mean(-1).numpy()
    if (guidance := reading.guidance) is not None:
        parts = {GUIDANCE: guidance, NOUN_PART: noun_part(guidance), COMMON_PART: common_part(guidance)[:, None]}
        values |= {measure: amplitude(part).numpy() for measure, part in parts.items()}
    if reading.denoising_error is not None:
        values[DENOISING_ERROR] = reading.denoising_error.numpy()
    return values


def _no_cosine(reading: Reading, reference: Reading | None, shown: Shown) -> str:
    """Why the guidance vectors cannot be laid beside the reference's; empty if they can."""
    if reference is None:
        return NO_REFERENCE
    if reading.guidance is None:
        return NO_GUIDANCE
    if reference.kind != reading.kind:
        return OTHER_KIND
    return "" if shown.same_for_all else OWN_PICTURES


def _summary(
    values: np.ndarray, reference: np.ndarray | None, members: dict[str, np.ndarray | None],
    timesteps: tuple[int, ...], draws: np.ndarray | None,
) -> dict[str, Any]:  # fmt: skip
    """One measure of ``[T, n]``: by group of concepts, over all timesteps and at each; concept by concept.

    Args:
        draws: ``[T, n, R]`` whose mean over R the values are; None where there are none.
    """
    mean = values.mean(0)
    beside = None if reference is None else reference.mean(0)
    errors = None if draws is None else [mean_and_standard_error(each)[1] for each in draws.mean(0)]
    groups: dict[str, Any] = {}
    for group, chosen in members.items():
        if chosen is None or not chosen.any():
            groups[group] = None
            continue
        rows = [(mean, beside), *((values[at], None if reference is None else reference[at])
                                  for at in range(len(timesteps)))]  # fmt: skip
        total, *by_timestep = (_estimates(one, other, chosen) for one, other in rows)
        steps = [{"timestep": step, **each} for step, each in zip(timesteps, by_timestep, strict=True)]
        groups[group] = total | {"over_draws": _over_draws(errors, chosen), "by_timestep": steps}
    return {
        "groups": groups,
        "per_concept": mean.tolist(),
        "standard_error": None if errors is None else [known(each) for each in errors],
        "draws": None if draws is None else [[known(each) for each in row] for row in draws.mean(0).tolist()],
        "relative": None if beside is None else _ratios(mean, beside),
    }


def _estimates(values: np.ndarray, reference: np.ndarray | None, chosen: np.ndarray) -> dict[str, Any]:
    relative = None if reference is None else ratio(values[chosen], reference[chosen])
    return {"mean": as_json(t_interval(values[chosen])), "relative": relative}


def _label_noise(
    measures: dict[str, Any], model: MeasuredModel, reference: Reading | None, members: dict[str, np.ndarray | None]
) -> dict[str, Any] | None:
    """None without shares, or without a reference of the same kind."""
    if model.true_shares is None or reference is None or reference.kind != model.reading.kind:
        return None
    beside = {measure: values.mean(0) for measure, values in _values(reference).items()}
    return label_noise(measures, beside, model.true_shares, members)


def _over_draws(errors: list[float] | None, chosen: np.ndarray) -> float | None:
    """Standard error of a group's mean that the draws alone cause; None of one draw."""
    if errors is None:
        return None
    return known(float(np.sqrt(np.square(np.array(errors)[chosen]).sum()) / chosen.sum()))


def _ratios(values: np.ndarray, reference: np.ndarray) -> list[float | None]:
    return [float(one / other) if other > 0 else None for one, other in zip(values, reference, strict=True)]
