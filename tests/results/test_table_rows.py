"""This world's rows of the paper's tables, from the shipped studies and from models of which something is unknown."""

import json

import pytest

from explorer.core.provenance import ROOT
from explorer.results.comparisons import compare_study
from explorer.results.measured import Measured
from explorer.results.table_rows import class_rows, model_rows
from explorer.studies.study import Study

SHIPPED = ROOT / "assets" / "studies" / "iconworld"


@pytest.fixture(scope="module")
def tables():
    study = Study.load(SHIPPED)
    return {each.name: each for each in compare_study(study, Measured.of(study))}


def test_table_1_has_what_the_evaluation_says_of_every_model(tables):
    models = json.loads((SHIPPED / "results/evaluation/evaluation.json").read_text())["models"]
    rows = tables["Table 1, dirty-label"].rows
    assert [(row["model"], row["poisoned_concept_count"]) for row in rows] == [
        ("benign", 0), ("dirty-020", 20), ("dirty-040", 40), ("dirty-060", 60)
    ]  # fmt: skip
    for row, model in zip(rows, models, strict=True):
        assert row["ad"] == model["alignment_difficulty"]["ad"]
        assert row["accuracy"]["clean"] == model["accuracy"]["unpoisoned"]["mean"]
        assert row["utility"] == model["utility"]["unpoisoned"]["mean"]
    assert rows[0]["accuracy"]["poisoned"] is None
    assert rows[3]["accuracy"]["poisoned"] == models[3]["accuracy"]["poisoned"]["mean"]


@pytest.mark.parametrize(
    ("name", "column", "values"),
    [
        ("Table 1, clean-label", "poisoned_concept_count", [0, 60, 60]),
        ("Table 2", "pool_ranks", ["no poison", "most frequent", "101-120"]),
        ("Table 3", "base", ["early-base-poisoned"] * 2 + ["narrow-base-poisoned"] * 2),
        ("Table 4", "poisoned_concept_count", [0, 60]),
        ("Table 5, ImageNet; Figure 8", "poisoned_concept_count", [0, 6, 30, 60]),
        ("Table 5, CIFAR10", "poisoned_concept_count", [0, 4, 8, 10]),
        ("Table 6", "benign_pairs", [None, 900, 1800, 3600, 5400, None]),
    ],
)
def test_every_table_that_was_measured_has_its_rows(tables, name, column, values):
    assert [row[column] for row in tables[name].rows] == values
    assert all(0 <= row["accuracy"]["all"] <= 1 for row in tables[name].rows)
    assert tables[name].report()["rows"] == list(tables[name].rows)


def test_without_clean_classes_or_without_a_record_nothing_is_said_of_them():
    shares = {"dog": 0.5, "hat": 0.25, "sofa": None}
    model = {"name": "all", "poisoned_concept_count": 3, "poisoned_concepts": list(shares),
             "classifier_per_concept": shares}  # fmt: skip
    (row,) = class_rows([model])
    assert row["accuracy"] == {"all": 0.375, "clean": None, "poisoned": 0.375}
    (row,) = class_rows([model | {"poisoned_concepts": ["hat"]}])
    assert row["accuracy"] == {"all": 0.375, "clean": 0.5, "poisoned": 0.25}
    (row,) = class_rows([model | {"poisoned_concepts": [], "poisoned_concepts_known": False}])
    assert row["accuracy"] == {"all": 0.375, "clean": None, "poisoned": None}
    assert (row["ad"], row["feature_ad"]) == (None, None)


def test_what_comes_first_is_the_same_in_all_rows():
    groups = {"all": {"mean": 0.5}, "unpoisoned": None}
    model = {"name": "a", "poisoned_concept_count": 0, "accuracy": groups, "utility": groups}
    (row,) = model_rows([model], base="mine")
    assert next(iter(row)) == "base"
    assert row["accuracy"] == {"all": 0.5, "clean": None, "poisoned": None}
    assert (row["base"], row["utility"]) == ("mine", None)
