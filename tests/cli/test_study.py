"""``explorer study``: what is printed, what is refused, and how failures end. ``tests/studies`` tests what is done."""

import json

import pytest
from typer.testing import CliRunner

import explorer.cli.study  # noqa: F401 - registers the commands
from explorer.cli.application import application
from explorer.studies.study import Study


def run(*arguments):
    return CliRunner().invoke(application, ["study", *map(str, arguments)])


@pytest.fixture
def made(tmp_path, checkpoint_root):
    """A study of three models without pairs or extractor."""
    printed = run("new", tmp_path / "study", "--checkpoint", checkpoint_root, "--name", "three")
    assert printed.exit_code == 0, printed.output
    (tmp_path / "study" / "concepts.csv").write_text("concept\ndog\nhat\n")
    return tmp_path / "study", printed.stdout


def test_new_tells_what_it_assumed_and_left_open(made):
    folder, printed = made
    assert "arm benign is the benign control" in printed
    assert (
        "models draw 5 pictures a concept, in 20 steps at guidance 7.5: seeds, steps and guidance_scale in" in printed
    )
    assert "open: arm dirty-004 has no pairs" in printed
    assert f"3 arms in {folder}" in printed
    assert Study.load(folder).name == "three"


def test_status_says_what_is_missing_and_what_cannot_be(made):
    lines = run("status", made[0]).stdout.splitlines()
    assert any(line.startswith("scores      cannot     the study names no extractor") for line in lines)
    assert any(line.startswith("pictures    missing    45 pictures of 20 steps") for line in lines)
    assert f"  python -m explorer study run {made[0]} pictures" in lines
    told = json.loads(run("status", made[0], "--json").stdout)
    states = {step["step"]: step["state"] for step in told["steps"]}
    assert (states["pictures"], states["evaluation"], states["film-strip"]) == ("missing", "cannot", "missing")


def test_a_step_says_once_what_all_arms_lack_and_an_example_where_each_lacks_its_own(made, checkpoint_root):
    def status():
        return run("status", made[0]).stdout.splitlines()

    assert status().count("scores      cannot     the study names no extractor: expected a folder, or open_clip and "
                          "weights, in study.toml") == 1  # fmt: skip
    for name in ("benign", "dirty-002", "dirty-004"):
        (checkpoint_root / name).rename(checkpoint_root / f"{name}-moved")
    lines = status()
    place = next(place for place, line in enumerate(lines) if line.startswith("pictures"))
    assert lines[place].startswith("pictures    cannot     each of 3 arms lacks something, benign for example: its che")
    assert lines[place].count("write its new place") == 1
    assert [line.split()[:2] for line in lines[place + 1 : place + 4]] == [
        ["cannot", "benign"], ["cannot", "dirty-002"], ["cannot", "dirty-004"],
    ]  # fmt: skip


def test_arms_that_lack_the_same_by_their_own_commands_stand_in_one_line(made):
    toml = made[0] / "study.toml"
    extractor = '[extractor]\nopen_clip = "ViT-B-32"\nweights = "clip.safetensors"\nfeature_range = [0.2, 0.4]\n'
    toml.write_text(toml.read_text().replace("[extractor]\n", extractor))
    (made[0] / "clip.safetensors").touch()
    lines = [line for line in run("status", made[0]).stdout.splitlines() if "study retrain" in line]
    told = "no model was trained again on what a filter leaves of its pairs: "
    assert lines == [f"retrained   cannot     {told}`python -m explorer study retrain {made[0]} ARM --recipe FILE`"]


def test_a_study_without_arms_says_so(tmp_path):
    (tmp_path / "study.toml").write_text('name = "x"\n')
    lines = run("status", tmp_path).stdout.splitlines()
    assert len(lines) == 9
    why = "cannot     the study has no arm: expected a table [[arm]] in study.toml for each"
    assert all(line.endswith(why) for line in lines)


def test_run_ends_with_an_error_where_an_arm_fails(made):
    concepts = made[0] / "concepts.csv"
    concepts.write_text("concept\ndog 狗\n")  # which these models cannot read
    result = run("run", made[0], "film-strip")
    assert isinstance(result.exception, ValueError)
    assert "not everything was done: film-strip:" in str(result.exception)


def test_an_extractor_is_written_with_its_place(tmp_path, checkpoint_root, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(
        "new", "study", "--checkpoint", "checkpoints/*", "--open-clip", "local-dir:clip", "--weights",
        "clip/w.safetensors", "--feature-range", 0.2, 0.45,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = Study.load(tmp_path / "study").extractor
    assert found.open_clip == f"local-dir:{tmp_path / 'clip'}"
    assert found.weights == tmp_path / "clip" / "w.safetensors"
    assert found.feature_range == (0.2, 0.45)


def test_an_extractor_without_weights_is_refused(tmp_path, checkpoint_root):
    result = run("new", tmp_path / "study", "--checkpoint", checkpoint_root, "--open-clip", "ViT-B-32")
    assert "expected --weights FILE, too" in str(result.exception)
    assert not (tmp_path / "study").exists()


def test_calibrate_says_what_it_lacks(made, tmp_path, checkpoint_root):
    assert "none of open_clip's" in str(run("calibrate", made[0]).exception)
    result = run(
        "new", tmp_path / "other", "--checkpoint", checkpoint_root, "--open-clip", "ViT-B-32", "--weights", "w",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert f"study calibrate {tmp_path / 'other'}" in result.output
    assert "no arm with pairs is the control" in str(run("calibrate", tmp_path / "other").exception)
