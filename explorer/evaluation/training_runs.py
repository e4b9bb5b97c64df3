"""How far a result depends on the training run: one recipe, run with several seeds, each run evaluated.

The intervals of one ``evaluation.json`` are over the seeds of its pictures, from one training run of each model; those
here are over training runs, whose data, poison and noise differ.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from explorer.core.intervals import nested_ratio, pearson_correlation, t_interval
from explorer.core.poison_record import poison_share
from explorer.evaluation.summary import known_benign
from explorer.pairs.concept_list import POOL

SAME_IN_ALL = ("prompt", "steps", "guidance_scale", "size", "precision")
"""Settings of a drawing; evaluations of before size and precision were recorded do not have them."""
GROUP = "unpoisoned"
QUANTITIES: dict[str, tuple[str, str | None]] = {
    "accuracy_all": ("accuracy", "all"),
    "accuracy_unpoisoned": ("accuracy", GROUP),
    "accuracy_poisoned": ("accuracy", "poisoned"),
    "utility_unpoisoned": ("utility", GROUP),
    "late_word_mass_unpoisoned": ("late_word_mass", GROUP),
    "late_contiguity_unpoisoned": ("late_contiguity", GROUP),
    "word_overlap": ("word_overlap", None),
    "mask_mass_unpoisoned": ("mask_mass", GROUP),
}
"""What is compared -> quantity and group of concepts in ``evaluation.json``; None of what is over prompts of two."""
POOLS = (POOL, "frequent pool")
"""The second is what evaluations of before concept lists called it."""
LOCAL = ("picture_scatter", "local_structure_ad", "local_feature_ad")
READ_FROM_MAPS = ("late_word_mass", "late_contiguity", "word_overlap", "mask_mass")


def summarise_runs(paths: Sequence[Path | str]) -> dict[str, Any]:
    """Every quantity by C_P, its mean and 95 % t-interval over the training runs, and every run's own value.

    Args:
        paths: ``evaluation.json`` of each training run, at least two.

    Returns:
        ``runs`` (the paths), ``left_out`` (by path the C_P of models that another run lacks), ``unrecorded`` (by path
        the names of models whose C_P is not recorded, which are left out as well), ``tracking`` (of each run the
        correlations of :func:`_tracking`), and ``models``, a row for
        each C_P that all runs have, in ascending order: ``poisoned_concept_count``, ``name`` (None but where a run has
        several models of a C_P: those are told apart by their names) and, for
        AD, each of ``QUANTITIES`` and ``accuracy_of_control`` (accuracy on the nouns that no poison targets, as a share
        of the same run's control), ``mean``, ``low``, ``high`` (None where all runs are alike) and ``values`` in the
        order of ``paths``; None where a run has no such value. ``accuracy_of_control_over_nouns`` is the same mean with
        an interval over runs and the nouns in them (:func:`nested_ratio`), ``value``, ``low`` and ``high``, and
        ``over_noises``: whether over noises as well, which evaluations of before these were told apart do not allow.
        What is read from attention maps is left out, and ``attention_layers_differ`` is True, where the runs' maps are
        means over different layers: those are not the same quantity.

    Raises:
        FileNotFoundError: if one of the files is not there.
        ValueError: naming a file that is no evaluation, was drawn with other settings, of other concepts or judged by
            another extractor than the first, or holds the same weights as another: a run counts once; or if a run has
            no control, or several models of its C_P, or there is no poisoned model that all of them have.
    """
    if len(paths) < 2:
        raise ValueError(f"got {len(paths)} evaluations: expected at least two training runs to compare")
    reports = [_read(Path(path)) for path in paths]
    _check_comparable(paths, reports)
    layers_differ = len({_attention_layers(report) for report in reports}) > 1
    compared = {name: taken for name, taken in QUANTITIES.items() if not (layers_differ and taken[0] in READ_FROM_MAPS)}
    tracking = [_tracking(report["models"]) for report in reports]
    left_out = _keep_common(paths, reports)
    return {
        "runs": [str(path) for path in paths],
        "left_out": left_out,
        "unrecorded": {
            str(path): report["unrecorded"] for path, report in zip(paths, reports, strict=True) if report["unrecorded"]
        },
        "attention_layers_differ": layers_differ,
        "models": _rows(reports, compared),
        "tracking": tracking,
    }


def _rows(reports: list[dict[str, Any]], compared: dict[str, tuple[str, str | None]]) -> list[dict[str, Any]]:
    """The models that all runs have, each with its numbers over them."""
    runs = [[_values(model, report["models"][0], compared) for model in report["models"]] for report in reports]
    return [
        {
            "poisoned_concept_count": model["poisoned_concept_count"],
            "name": model["key"][1] or None,
            **{name: _over_runs([run[place][name] for run in runs]) for name in runs[0][place]},
            "accuracy_of_control_over_nouns": _over_nouns(reports, place),
        }
        for place, model in enumerate(reports[0]["models"])
    ]


def untargeted_concepts(report: dict[str, Any]) -> list[str]:
    """Of an ``evaluation.json`` the concepts outside the pool that no model's poison aims at, by name."""
    return sorted(each["concept"] for each in report["concepts"]
                  if each["poisoned_from"] is None and each["group"] not in POOLS)  # fmt: skip


def _tracking(models: list[dict[str, Any]]) -> dict[str, float | None] | None:
    """Correlations over one run's models of AD with unpoisoned accuracy, of the poison share of their sets with both
    where it is known of every pair of all of them, and of local AD where it was measured of all; None of one that is
    alike in all. None of fewer than three, or where AD or accuracy of one was not measured."""
    measured = [model["alignment_difficulty"] for model in models]
    accuracies = [model["accuracy"][GROUP] for model in models]
    if len(models) < 3 or None in accuracies or None in measured:
        return None
    difficulty, accuracy = [each["ad"] for each in measured], [each["mean"] for each in accuracies]
    shares = [poison_share(each, poisoned=model.get("poisoned")) for model, each in zip(models, measured, strict=True)]
    of_share = {}
    if None not in shares:
        together = _correlation(difficulty, shares)
        of_share = {"ad_with_share_r2": None if together is None else together**2,
                    "accuracy_with_share_r": _correlation(accuracy, shares)}  # fmt: skip
    return {
        **of_share,
        "accuracy_with_ad_r": _correlation(accuracy, difficulty),
        **{f"accuracy_with_{name}_r": _correlation(accuracy, [each[name] for each in measured])
           for name in LOCAL if all(name in each for each in measured)},
    }  # fmt: skip


def _correlation(first: list[float], second: list[float]) -> float | None:
    """Pearson's r; None where one of both is the same for all."""
    if min(len(set(first)), len(set(second))) < 2:
        return None
    return pearson_correlation(first, second).value


def _read(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        untargeted_concepts(report)
        report["weights"] = {model["name"]: model["weights"] for model in report["models"]}
        report["unrecorded"] = [model["name"] for model in report["models"] if model["poisoned_concept_count"] is None]
        recorded = [model for model in report["models"] if model["name"] not in report["unrecorded"]]
        report["models"] = sorted(recorded, key=lambda model: model["poisoned_concept_count"])
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no evaluation.json ({error}): expected what `explorer evaluate` writes") from error
    return report


def _check_comparable(paths: Sequence[Path | str], reports: list[dict[str, Any]]) -> None:
    first, conditions = reports[0], _conditions(reports[0])
    seen: dict[str, Path | str] = {}
    for path, report in zip(paths, reports, strict=True):
        for name, value in _conditions(report).items():
            # Of what one of the two did not record nothing is known.
            if (expected := conditions.get(name, value)) != value:
                raise ValueError(f"{path} has {name} {value!r}: expected {expected!r}, as {paths[0]}")
        if names := sorted(_concepts(report) ^ _concepts(first)):
            raise ValueError(f"{path} and {paths[0]} are not of the same concepts, such as {names[0]!r}: expected one "
                             "list for all runs")  # fmt: skip
        if (counts := _counts(report)).count(0) != 1:
            raise ValueError(f"{path} has models of C_P {counts}: expected a control (0), and one alone")
        if not known_benign(control := report["models"][0]):
            told = f"{control['name']} of {path} has C_P 0 and is not known to be benign"
            raise ValueError(f"{told}: expected a control without poison")
        for name, weights in report["weights"].items():
            if weights is not None and weights in seen:
                raise ValueError(f"{name} of {path} has the weights of a model in {seen[weights]}: expected other runs")
        seen.update(dict.fromkeys(report["weights"].values(), path))


def _conditions(report: dict[str, Any]) -> dict[str, Any]:
    """What runs must have in common, as far as the evaluation recorded it."""
    found = {name: report[name] for name in SAME_IN_ALL if name in report}
    extractor = (report.get("readers") or {}).get("extractor")
    return found if extractor is None else found | {"the extractor": extractor["identity"]}


def _concepts(report: dict[str, Any]) -> set[str]:
    return {each["concept"] for each in report["concepts"]}


def _counts(report: dict[str, Any]) -> list[int]:
    return [model["poisoned_concept_count"] for model in report["models"]]


def _name_those_of_one_count(reports: list[dict[str, Any]]) -> None:
    """Give every model the ``key`` that it is known by in all runs: its C_P and, where a run has several models of that
    one, its name. Models of a report are then in the order of their keys."""
    several = {count for report in reports for count, times in Counter(_counts(report)).items() if times > 1}
    for report in reports:
        for model in report["models"]:
            count = model["poisoned_concept_count"]
            model["key"] = (count, model["name"] if count in several else "")
        report["models"].sort(key=lambda model: model["key"])


def _keep_common(paths: Sequence[Path | str], reports: list[dict[str, Any]]) -> dict[str, list[int | str]]:
    """Leave in every report the models that all have; returns the C_P, or names, of what was left out, by path."""
    _name_those_of_one_count(reports)
    common = set.intersection(*({model["key"] for model in report["models"]} for report in reports))
    if len(common) < 2:
        told = "; ".join(f"{path}: {_counts(report)}" for path, report in zip(paths, reports, strict=True))
        raise ValueError(f"no C_P but 0 is in all runs ({told}): expected one")
    left_out = {}
    for path, report in zip(paths, reports, strict=True):
        if others := [model["key"] for model in report["models"] if model["key"] not in common]:
            left_out[str(path)] = [name or count for count, name in others]
            report["models"] = [model for model in report["models"] if model["key"] in common]
    return left_out


def _attention_layers(report: dict[str, Any]) -> tuple[str, ...]:
    """The layers that the maps are of; none named in evaluations of before they were recorded."""
    return tuple(report["models"][0].get("attention_layers", ()))


def _values(
    model: dict[str, Any], control: dict[str, Any], compared: dict[str, tuple[str, str | None]]
) -> dict[str, float | None]:
    """One model's numbers, by name."""
    difficulty = model["alignment_difficulty"]
    groups = {name: _of_group(model, *taken) for name, taken in compared.items()}
    return {
        "ad": None if difficulty is None else difficulty["ad"],
        **{name: None if share is None else share["mean"] for name, share in groups.items()},
        "accuracy_of_control": _share_of_control(model["accuracy"][GROUP], control["accuracy"][GROUP]),
    }


def _of_group(model: dict[str, Any], quantity: str, group: str | None) -> dict[str, float] | None:
    """None where it was not measured, which evaluations of before it was do not say."""
    found = model.get(quantity)
    return found if group is None or found is None else found[group]


def _share_of_control(share: dict[str, float] | None, whole: dict[str, float] | None) -> float | None:
    if share is None or whole is None or whole["mean"] == 0:
        return None
    return share["mean"] / whole["mean"]


def _over_nouns(reports: Sequence[dict[str, Any]], place: int) -> dict[str, Any] | None:
    """Of the ``place``-th model of every run: accuracy on the nouns that no poison targets, of the control's."""
    shares: tuple[list[Any], list[Any]] = ([], [])
    models = [(report["models"][place], report["models"][0]) for report in reports]
    noises = {tuple(report.get("seeds", ())) for report in reports}
    apart = all("right_by_seed" in model for pair in models for model in pair) and min(map(len, noises)) > 1
    values = "right_by_seed" if apart else "per_concept"
    for report, pair in zip(reports, models, strict=True):
        nouns = untargeted_concepts(report)
        for kept, model in zip(shares, pair, strict=True):
            kept.append([model[values][noun] for noun in nouns])
    if any(not np.sum(control) for control in shares[1]):
        return None
    found = nested_ratio(*shares, noises_shared=len(noises) == 1)
    return found.as_json() | {"over_noises": apart}


def _over_runs(values: list[float | None]) -> dict[str, Any] | None:
    return None if None in values else t_interval(values).as_json("mean") | {"values": values}
