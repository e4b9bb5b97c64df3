"""How two operations of graft studies differ: by study, and over training runs."""

import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from explorer.cli.application import application, load_commands
from explorer.core.intervals import t_interval
from explorer.core.provenance import ROOT, write_json
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


def difference(*files):
    """What the command answers: what it prints, or why not."""
    load_commands()
    told = CliRunner().invoke(application, ["graft-difference", *map(str, files)])
    return told.stdout if told.exit_code == 0 else str(told.exception)


def changed(path, folder, **changes):
    """A copy of a report in ``folder`` with other contents; no manifest is of it."""
    folder.mkdir(exist_ok=True)
    write_json(written := folder / "graft-study.json", stored(path) | changes)
    return written


@pytest.mark.parametrize(
    "runs",
    [
        [f"{name}-run-{run}/graft-study.json" for run in (1, 2, 3)]
        for name in ("five-forward", "five-reverse", "reverse")
    ],
)
def test_the_shipped_training_runs_are_taken_together(runs):
    assert "over 3 runs: accuracy" in difference(*(SURGERY / run for run in runs))


def test_copies_of_a_report_are_no_training_runs(tmp_path):
    copy = changed(RUNS[0], tmp_path / "copy")
    assert "are of the same two models" in difference(RUNS[0], RUNS[1], copy), "by their distance"
    reverse = SURGERY / "five-reverse-run-1" / "graft-study.json"
    assert "are of the same two models" in difference(RUNS[0], reverse), "by their hashes, whichever gives parts"
    moved = shutil.copytree(RUNS[0].parent, tmp_path / "moved") / RUNS[0].name
    assert "are of the same two models" in difference(RUNS[0], moved)


def test_reports_that_were_not_measured_alike_are_not_taken_together(tmp_path):
    report = stored(RUNS[1])
    for name, value, told in (
        ("seeds", 2, "seeds, 5 and 2"), ("steps", 50, "steps, 12 and 50"), ("draws", 3, "draws, 1 and 3"),
        ("guidance_scale", 7.5, "guidance_scale, 4.0 and 7.5"), ("precision", "bf16", "precision, fp32 and bf16"),
    ):  # fmt: skip
        other = changed(RUNS[1], tmp_path / name, request=report["request"] | {name: value})
        assert f"differ in {told}: expected studies that were measured alike" in difference(RUNS[0], other)
    for name, value in (
        ("judge", {"name": "other", "identity": "0" * 64}), ("shown", "noise"), ("concepts", report["concepts"][:-1]),
    ):  # fmt: skip
        other = changed(RUNS[1], tmp_path / name, **{name: value})
        assert "differ in " in difference(RUNS[0], other)
    request = report["request"] | {"attention": False, "strip": True, "curves": True, "precision": "fp32"}
    assert "over 2 runs" in difference(RUNS[0], changed(RUNS[1], tmp_path / "asked", request=request))
    for name, content in (("template", "a drawing of {phrase}"), ("lists", {"among": {"sha256": "0"}})):
        folder = shutil.copytree(RUNS[1].parent, tmp_path / f"manifest-{name}")
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        manifest["config"][name] = content
        write_json(folder / "manifest.json", manifest)
        assert "differ in " in difference(RUNS[0], folder / RUNS[1].name)
