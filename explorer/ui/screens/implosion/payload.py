"""What the screen *Implosion* draws: film strip, the study's measurements, its meter, the paper's table."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cache
from statistics import linear_regression
from typing import TYPE_CHECKING, Any

from PIL import Image

from explorer.core.intervals import pearson_correlation, t_interval
from explorer.core.poison_record import poison_share
from explorer.core.provenance import ManifestError
from explorer.evaluation.config import EVALUATION_NAME
from explorer.generation.film_export import film_strip_gif
from explorer.generation.payload_formats import FILM_KINDS
from explorer.generation.payload_formats import FILM_STRIP as FORMAT
from explorer.results.paper import TABLES, paper_table
from explorer.studies.results import EVALUATION, FILM_STRIP
from explorer.ui.shell.drawn import how_drawn
from explorer.ui.shell.open_study import told
from explorer.ui.shell.routes import FILM_STRIP_GIF
from explorer.ui.shell.study_meter import study_meter
from explorer.ui.shell.study_poison import with_aims

if TYPE_CHECKING:
    from explorer.results.measured import Measured
    from explorer.ui.shell.open_study import OpenStudy

AD_KEYS = ("feature_ad", "structure_ad", "ad", "feature_ad_standard_error", "structure_ad_standard_error")
LACKING = "the study's results lack the field {}: expected what this version writes"
GROUP = "unpoisoned"
"""Concepts that no poison aims at, which utility is fitted over."""
QUANTITIES = ("accuracy", "utility", "late_contiguity", "late_word_mass")


def implosion_payload(opened: OpenStudy) -> dict[str, Any]:
    """Film strip, measurements and meter; each says in ``problem`` why it is missing, the others are shown all the
    same."""
    from explorer.results.measured import Measured
    from explorer.studies.blame import stored_concepts

    measured = cache(lambda: Measured.of(opened.study))  # which may raise, and is asked for in each part that says so
    return {
        "film": _or_problem(opened, lambda: film_strip(opened)),
        "evaluation": _or_problem(opened, lambda: evaluation_summary(opened.result_json(EVALUATION, EVALUATION_NAME))),
        "meter": _or_problem(opened, lambda: study_meter(opened)),
        "paper": [paper_table(number) for number in TABLES],
        "beside_paper": _or_problem(opened, lambda: beside_paper(opened, measured)),
        "poisoned_base": _or_problem(opened, lambda: poisoned_base(measured)),
        "runs": _or_problem(opened, lambda: training_runs(opened, measured)),
        "stored_blame": stored_concepts(opened.study),
    }


def beside_paper(opened: OpenStudy, measured: Callable[[], Measured]) -> dict[str, Any]:
    """The paper's tables and figures, each with what the study has of it.

    Raises:
        ManifestError: if the evaluation lacks a field, or a study beside it is missing or broken.
    """
    from explorer.results.comparisons import compare_study

    try:
        return {"comparisons": [each.report() for each in compare_study(opened.study, measured())]}
    except KeyError as error:
        raise ManifestError(LACKING.format(error)) from error
    except ManifestError:
        raise
    except (FileNotFoundError, ValueError) as error:
        raise ManifestError(f"a study that `beside` or `other_bases` names cannot be read: {error}") from error


def training_runs(opened: OpenStudy, measured: Callable[[], Measured]) -> dict[str, str]:
    """``told``, what other training runs of the study's recipe give and whether it was tuned on these concepts, and
    ``lacking``, which of them are not there; either may be empty.

    Raises:
        ManifestError: if an evaluation lacks a field.
    """
    from explorer.results.further_runs import told_of_runs

    try:
        found = measured()
    except KeyError as error:
        raise ManifestError(LACKING.format(error)) from error
    return {"told": told_of_runs(opened.study, found.runs), "lacking": found.problems.get("runs", "")}


def poisoned_base(measured: Callable[[], Measured]) -> dict[str, Any] | None:
    """What AD predicts of the study's models that were trained on after the poison; None where there are none.

    Raises:
        ManifestError: if a result lacks a field.
    """
    from explorer.results.poisoned_base import of_study, report

    try:
        return report(of_study(measured()))
    except KeyError as error:
        raise ManifestError(LACKING.format(error)) from error


def film_strip(opened: OpenStudy) -> dict[str, Any]:
    """The film strip's description with the URLs of its sheets.

    Raises:
        ManifestError: if a file is missing or changed.
    """
    description = _description(opened)
    return {
        **description,
        "prompt": opened.study.template,
        "sheets": {kind: opened.result_url(FILM_STRIP, f"{kind}.png") for kind in _kinds(description)},
        "no_guidance": _why_no_guidance(opened, description),
        "gif_url": FILM_STRIP_GIF,
    }


def _description(opened: OpenStudy) -> dict[str, Any]:
    hint = f"Run `{opened.result_command(FILM_STRIP)}`."
    description = FORMAT.checked(opened.result_json(FILM_STRIP, FORMAT.name), hint)
    return {**description, "models": with_aims(opened, description["models"])}


def _kinds(description: dict[str, Any]) -> list[str]:
    """What the cells of the strip can show."""
    return [kind for kind in FILM_KINDS if kind != "guidance" or description.get("guidance_map_scale") is not None]


def _why_no_guidance(opened: OpenStudy, description: dict[str, Any]) -> str:
    """Why the strip has no guidance maps at all; empty where it has some."""
    if "guidance" in _kinds(description):
        return ""
    if "guidance_map_scale" not in description:
        return f"an earlier release drew this strip; `{opened.result_command(FILM_STRIP)}` draws it with them"
    return "; ".join(dict.fromkeys(model["no_guidance"] for model in description["models"]))


def film_strip_animation(opened: OpenStudy, rows: Sequence[int], kinds: str, theme: str) -> bytes:
    """The chosen rows of the film strip as an animated GIF.

    Args:
        kinds: some of ``FILM_KINDS``, with - between.

    Raises:
        ManifestError: if a file is missing or changed.
        ValueError: as :func:`~explorer.generation.film_export.film_strip_gif`.
    """
    description = _description(opened)
    with ExitStack() as stack:
        sheets = {
            kind: stack.enter_context(Image.open(opened.result_file(FILM_STRIP, f"{kind}.png")))
            for kind in _kinds(description)
        }
        known = {**description, "study": opened.slug, "prompt": opened.study.template, "tau": _tau(opened, description)}
        return film_strip_gif(known, sheets, rows, kinds.split("-"), theme)


def _tau(opened: OpenStudy, description: dict[str, Any]) -> float | None:
    """Of the strip; of a strip of an earlier release, which has none, that of the evaluation, as on the screen."""
    tau = description.get("tau")
    if tau is not None:
        return tau
    try:
        return opened.result_json(EVALUATION, EVALUATION_NAME).get("tau")
    except ManifestError:
        return None


def evaluation_summary(evaluation: dict[str, Any]) -> dict[str, Any]:
    """The numbers of every model, by C_P, and utility against AD with a straight fit.

    Models whose C_P nobody recorded come last.

    Raises:
        ManifestError: if a field is missing.
    """
    try:
        models = [_model_row(model) for model in evaluation["models"]]
        drawn = how_drawn(evaluation)
        summary = {name: evaluation[name] for name in ("seeds", "tau", "utility_definition")}
    except KeyError as error:
        raise ManifestError(
            f"evaluation.json lacks the field {error}: expected what this version's step evaluation writes"
        ) from error
    models.sort(key=lambda model: (model["poisoned_concept_count"] is None, model["poisoned_concept_count"] or 0))
    drawn["models"] = [model["name"] for model in models]
    fits = {"fit": utility_fit(models), "share_fit": utility_fit(models, "poison_share")}
    return {**summary, "drawn": drawn, "models": models, **fits}


def utility_fit(models: list[dict[str, Any]], quantity: str = "ad") -> dict[str, Any] | None:
    """Least squares of utility on AD over the models (the paper's Fig. 6) with Pearson's r and its interval.

    Args:
        quantity: ``ad``, or ``poison_share`` in its place.

    Returns:
        ``slope``, ``intercept``, ``r``, ``low``, ``high`` (None for three models or fewer, where Fisher's interval
        is not defined), ``n``; None if fewer than two models have both, or one of them does not vary.
    """
    points = [
        (model[quantity], model["utility"][GROUP]["mean"])
        for model in models
        if model[quantity] is not None and model["utility"].get(GROUP)
    ]
    difficulties, utilities = [x for x, _ in points], [y for _, y in points]
    if len(set(difficulties)) < 2 or len(set(utilities)) < 2:
        return None
    correlation = pearson_correlation(difficulties, utilities)
    line = linear_regression(difficulties, utilities)
    return {
        "slope": line.slope,
        "intercept": line.intercept,
        "r": correlation.value,
        "low": _finite_or_none(correlation.low),
        "high": _finite_or_none(correlation.high),
        "n": correlation.n,
        "group": GROUP,
    }


def _model_row(model: dict[str, Any]) -> dict[str, Any]:
    difficulty, count = model.get("alignment_difficulty") or {}, model["poisoned_concept_count"]
    recorded = model.get("poison_recorded", count is not None)
    poisoned = model.get("poisoned", bool(count)) if recorded else None
    return {
        "name": model["name"],
        "poisoned_concept_count": count,
        "poisoned": poisoned,
        "poison_recorded": recorded,
        "poisoned_concepts_known": model.get("poisoned_concepts_known", recorded),
        **{key: difficulty.get(key) for key in (*AD_KEYS, "ad_standard_error", "alpha", "convention", "n")},
        "poison_share": poison_share(difficulty, poisoned=poisoned),
        **{quantity: model[quantity] for quantity in QUANTITIES},
        "classifier": _classified(model),
    }


def _classified(model: dict[str, Any]) -> dict[str, Any] | None:
    """How often the classifier saw what was asked, over the concepts that this model's poison does not aim at and over
    those that it does, with intervals over concepts; None without a classifier, or where the poison is not known. Over
    the former also how often it took a picture for broken; None where it has no class for that."""
    shares = model.get("classifier_per_concept")
    if shares is None or not model["poisoned_concepts_known"]:
        return None
    named, known = set(model["poisoned_concepts"]), {name: share for name, share in shares.items() if share is not None}
    return {
        "clean": _over_concepts([share for name, share in known.items() if name not in named]),
        "poisoned": _over_concepts([share for name, share in known.items() if name in named]),
        "broken": _over_concepts([share for name, share in (model.get("broken_per_concept") or {}).items()
                                  if name not in named]),
    }  # fmt: skip


def _over_concepts(shares: list[float]) -> dict[str, Any] | None:
    if not shares:
        return None
    found = t_interval(shares)
    return {"mean": found.value, "low": _finite_or_none(found.low), "high": _finite_or_none(found.high),
            "concepts": len(shares)}  # fmt: skip


def _finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _or_problem(opened: OpenStudy, make: Any) -> dict[str, Any] | None:
    try:
        return make()
    except ManifestError as error:
        return told(opened, error)
