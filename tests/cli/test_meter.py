"""``explorer meter``: the cost before the work, ratios to a reference, what is assumed and what is refused."""

import json
import shutil

import pytest
from typer.testing import CliRunner

import explorer.cli.meter
from explorer.cli.application import application


@pytest.fixture
def concepts(tmp_path):
    path = tmp_path / "concepts.csv"
    path.write_text("concept,group\ndog,pool\nhat,pool\nturtle,other\n")
    return path


def invoke(root, concepts, *arguments):
    called = ["meter", root / "dirty-002", "--reference", root / "benign", "--concepts", concepts, "--draws", 2]
    return CliRunner().invoke(application, [str(each) for each in (*called, *arguments)])


def test_json_has_every_model_and_the_cost_stands_before(checkpoint_root, concepts):
    result = invoke(checkpoint_root, concepts, "--on", "noise", "--timestep", 500, "--json")
    assert result.exit_code == 0, result.output
    assert "at most 36 network calls of one picture" in result.stderr
    found = json.loads(result.stdout)
    assert (found["reference"], found["timesteps"], found["draws"]) == ("benign", [500], 2)
    assert [model["name"] for model in found["models"]] == ["benign", "dirty-002"]
    assert found["models"][1]["measures"]["sensitivity"]["groups"]["poisoned"]["mean"]["n"] == 2


def test_lines_say_what_was_shown_and_what_is_heard_least(checkpoint_root, concepts):
    result = invoke(checkpoint_root, concepts, "--steps", 2, "--size", 32)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("On each model's own pictures, 2 steps at guidance 4; t = 300, 600; 2 draws.")
    assert [line.split(":")[0].strip() for line in lines].count("heard least") == 2
    assert any("guidance_cosine  not measured: models are shown their own pictures" in line for line in lines)


def test_models_of_one_name_are_called_with_the_folder_around_them_too(checkpoint_root, concepts):
    shutil.copytree(checkpoint_root / "benign", checkpoint_root.parent / "other" / "benign")
    arguments = (checkpoint_root.parent / "other" / "benign", "--on", "noise", "--timestep", 500, "--json")
    result = invoke(checkpoint_root, concepts, *arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["reference"] == "checkpoints-benign"
    assert [model["name"] for model in found["models"]] == ["checkpoints-benign", "dirty-002", "other-benign"]


def test_one_checkpoint_given_twice_is_refused(checkpoint_root, concepts):
    result = invoke(checkpoint_root, concepts, checkpoint_root / "dirty-002")
    assert "dirty-002 is given 2 times: expected each checkpoint once" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--on", "scenes"), "no checkpoint records a painted world"),
        (("--on", "nowhere"), "--on is 'nowhere': expected scenes, own, noise or a folder of pictures"),
        (("--draws", 0), "draws is 0: expected a whole number from 1"),
    ],
)
def test_what_cannot_be_is_refused_before_the_work(checkpoint_root, concepts, arguments, problem):
    result = invoke(checkpoint_root, concepts, *arguments)
    assert problem in str(result.exception)
    assert "network calls" not in result.stderr


def test_label_noise_is_said_in_words():
    share, ratio = {"value": 0.85, "low": None, "high": None}, {"value": 0.9, "low": 0.8, "high": 1.0}
    found = {"groups": {"unpoisoned": {"share": share, "sensitivity": ratio, "guidance": ratio}, "poisoned": None}}
    assert explorer.cli.meter._label_noise_lines(found) == [
        "  label noise      not targeted   true captions 0.850   sensitivity x 0.900 [0.800, 1.000] of the reference "
        "times that"
    ]
    assert explorer.cli.meter._label_noise_lines(None) == []
