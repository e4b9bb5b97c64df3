"""A step's folder appears whole or not at all, and every file is checked against its manifest."""

import shlex

import pytest

from explorer.core.provenance import ManifestError
from explorer.studies.results import (
    SCORES,
    command_line,
    result_file,
    step_command,
    step_folder,
    step_manifest,
    writing_step,
)
from explorer.studies.specs import ExtractorSpec
from explorer.studies.study import Study


@pytest.fixture
def study(tmp_path):
    return Study(folder=tmp_path, name="one", extractor=ExtractorSpec(), arms=())


def write(study, text):
    with writing_step(study, SCORES, settings={"alpha": 0.8}, inputs={"pairs": "0"}) as folder:
        (folder / "a").mkdir()
        (folder / "a" / "b.txt").write_text(text)


def test_a_finished_step_is_read_back(study):
    write(study, "first")
    write(study, "second")
    assert result_file(study, SCORES, "a/b.txt").read_text() == "second"
    assert step_manifest(study, SCORES)["config"] == {"step": SCORES, "settings": {"alpha": 0.8},
                                                      "inputs": {"pairs": "0"}}  # fmt: skip


def test_commands_are_as_a_shell_takes_them(tmp_path):
    command = command_line("retrain", tmp_path / "my study", "run #1", "--recipe", "FILE")
    assert shlex.split(command, comments=True)[3:] == [
        "study", "retrain", str(tmp_path / "my study"), "run #1", "--recipe", "FILE"
    ]  # fmt: skip
    spaced = Study(folder=tmp_path / "my study", name="one", extractor=ExtractorSpec(), arms=())
    assert shlex.split(step_command(spaced, SCORES))[-2:] == [str(tmp_path / "my study"), SCORES]


def test_a_step_that_fails_leaves_the_old_one(study):
    write(study, "first")
    with pytest.raises(RuntimeError), writing_step(study, SCORES, settings={}, inputs={}):
        raise RuntimeError
    assert result_file(study, SCORES, "a/b.txt").read_text() == "first"


def test_what_is_missing_or_changed_names_the_command(study):
    with pytest.raises(ManifestError, match=r"not there yet: run `python -m explorer study run .* scores`"):
        result_file(study, SCORES, "a/b.txt")
    write(study, "first")
    (step_folder(study, SCORES) / "a" / "b.txt").write_text("other")
    with pytest.raises(ManifestError, match="was changed"):
        result_file(study, SCORES, "a/b.txt")
    with pytest.raises(ManifestError, match="does not list"):
        result_file(study, SCORES, "../study.toml")
