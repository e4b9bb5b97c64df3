"""How two operations of graft studies differ: by study, and over training runs."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from explorer.cli.application import application, load_commands
from explorer.core.intervals import t_interval
from explorer.core.provenance import ROOT
from explorer.surgery.differences import operation_difference, over_runs

SURGERY = ROOT / "assets" / "experiments" / "surgery"
RUNS = [SURGERY / f"five-forward-run-{run}" / "graft-study.json" for run in (1, 2, 3)]
FIRST, SECOND = "cross-attention", "all-as-far-as-cross-attention"


def stored(path):
    return json.loads(path.read_text(encoding="utf-8"))


def operation(report, name):
    return next(each for each in report["directions"][0]["operations"] if each["name"] == name)


def test_what_one_operation_changes_more_than_another_is_of_the_pictures_and_of_the_way():
    report = stored(RUNS[0])
    found = operation_difference(report, FIRST, SECOND)
    rights = [np.array(operation(report, name)["right"]) / report["request"]["seeds"] for name in (FIRST, SECOND)]
    assert found["accuracy"] == pytest.approx((rights[0] - rights[1]).mean())
    none = np.array(operation(report, "none")["right"]) / report["request"]["seeds"]
    by_distance = [(right - none).mean() / operation(report, name)["distance"]
                   for right, name in zip(rights, (FIRST, SECOND), strict=True)]  # fmt: skip
    assert found["per_distance"] == pytest.approx(by_distance[0] - by_distance[1])
    assert "per_distance" not in operation_difference(report, FIRST, "none"), "nothing moved"
    with pytest.raises(ValueError, match="no operation is called 'attn': expected one of none, cross-attention"):
        operation_difference(report, "attn", SECOND)
    with pytest.raises(ValueError, match="direction 2 is asked for: expected one of 1"):
        operation_difference(report, FIRST, SECOND, way=1)


def test_attention_is_compared_where_both_were_looked_at():
    found = operation_difference(stored(SURGERY / "five-seeds.json"), FIRST, SECOND)
    assert {"attends", "scatters"} <= found.keys()
    assert "attends" not in operation_difference(stored(SURGERY / "both-ways.json"), FIRST, SECOND)


def test_several_studies_are_an_interval_over_runs():
    differences = [operation_difference(stored(path), FIRST, SECOND) for path in RUNS]
    pooled = over_runs([*differences[:2], {"accuracy": differences[2]["accuracy"]}])
    assert set(pooled) == {"accuracy"}, "what every run has"
    expected = t_interval([each["accuracy"] for each in differences])
    assert (pooled["accuracy"]["value"], pooled["accuracy"]["low"]) == pytest.approx((expected.value, expected.low))


def test_the_command_says_each_study_and_the_runs():
    load_commands()
    told = CliRunner().invoke(application, ["graft-difference", *map(str, RUNS)])
    assert told.exit_code == 0, told.output
    assert "over 3 runs: accuracy +0.0856 [-0.1105, +0.2816]" in told.stdout
    twice = CliRunner().invoke(application, ["graft-difference", str(RUNS[0]), str(RUNS[0])])
    assert "expected each file once" in str(twice.exception)
