import json

import pytest
from typer.testing import CliRunner

from explorer.cli.application import application, load_commands
from explorer.cli.benchmark import capture_goal


def invoke(*arguments):
    load_commands()
    return CliRunner().invoke(application, ["benchmark", *map(str, arguments), "--steps", "2", "--rounds", "1"])


def test_benchmark_capture(checkpoint_root):
    result = invoke("capture", "--checkpoint", checkpoint_root / "benign", "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["goal"] == 1.04
    assert list(printed["captures"]) == ["ours", "DAAM-style", "prompt-to-prompt-style"]
    # How much is for the command to say, not for a test on a busy machine.
    assert all(cost["ratio"] > 0 and cost["rounds"] == 1 for cost in printed["captures"].values())
    table = invoke("capture", "--checkpoint", checkpoint_root / "benign")
    assert table.stdout.startswith("| capture | seconds |")


def test_benchmark_clean_label(checkpoint_root):
    where = ("--checkpoint", checkpoint_root / "benign", "--side", 32, "--pictures", 3, "--batch-size", 2)
    printed = json.loads(invoke("clean-label", *where, "--json").stdout)
    assert printed["goal"] == 5
    left = printed["latent_distance_left"]
    # How much faster is for the command to say, not for a test on a busy machine.
    assert left["ours"] == pytest.approx(left["one at a time"], rel=0.02)
    assert left["ours"] < 1
    assert invoke("clean-label", *where).stdout.startswith("3 pictures of 32 x 32, 2 steps, batch 2")


def test_the_goal_of_capture_follows_the_device():
    assert [capture_goal(device) for device in ("cpu", "cuda", "cuda:1")] == [1.04, 1.02, 1.02]


def test_benchmark_compare(checkpoint_root):
    where = ("--checkpoints", checkpoint_root, "--model", "benign")
    result = invoke("compare", *where, "--model", "dirty-002", "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["models"] == ["benign", "dirty-002"]
    assert printed["ratio"] > 0, "how much is for the command to say, not for a test on a busy machine"
    assert "checkpoints given: benign; expected at least two" in str(invoke("compare", *where).exception)
    gone = invoke("compare", *where, "--model", "gone")
    assert "There is no checkpoint called 'gone'" in str(gone.exception)


def test_benchmark_redraw(checkpoint_root):
    asked = ("--checkpoints", checkpoint_root, "--model", "benign", "--model", "dirty-002", "--steps", "1")
    result = invoke("redraw", *asked, "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert (printed["models"], printed["rounds"], printed["goal"]) == (["benign", "dirty-002"], 1, 1.5)
    assert 0 < printed["seconds"] <= printed["seconds_95"]


def test_benchmark_ad():
    def benchmark(*arguments):
        return CliRunner().invoke(application, ["benchmark", "ad", "--no-memory", "--rounds", "1", *arguments])

    settings = ("--sizes", "30,60", "--width", "8", "--peers", "products,blocked,row-loop")
    printed = json.loads(benchmark(*settings, "--json").stdout)
    assert len(printed["results"]) == 6
    assert benchmark(*settings).stdout.startswith("| peer | N |")
    assert isinstance(benchmark("--sizes", "many").exception, ValueError)
