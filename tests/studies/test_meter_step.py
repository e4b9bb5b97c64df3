"""The step meter of models that draw no known world: it waits for the arms' own pictures, and compares with the
control."""

import json
from dataclasses import replace

import pytest

from explorer.studies.discovery import StudyRequest, new_study
from explorer.studies.results import METER, PICTURES, result_file
from explorer.studies.running import RunRequest, run_study
from explorer.studies.state import DONE, MISSING, STALE, study_state
from explorer.studies.study import Study


@pytest.fixture
def study(checkpoint_root, tmp_path):
    """The control, and two that are poisoned with dog and hat, and more."""
    (tmp_path / "concepts.csv").write_text("concept,group\ndog,pool\nhat,other\n")
    request = StudyRequest(folder=tmp_path / "study", checkpoints=(str(checkpoint_root / "*"),),
                           concepts=tmp_path / "concepts.csv")  # fmt: skip
    made = replace(new_study(request).study, seeds=(1,), steps=2, size=32)
    made.write()
    return Study.load(made.folder)


def of(study, step):
    return next(each for each in study_state(study) if each.step == step)


def test_it_is_shown_what_each_model_drew_and_stands_beside_the_control(study):
    waiting = of(study, METER).of("dirty-002")
    assert (waiting.state, waiting.why, waiting.waits) == (MISSING, "its pictures come first", True)
    report = run_study(study, RunRequest(steps=(PICTURES, METER)))
    assert report.failed == {}
    assert report.made[METER] == ("benign", "dirty-002", "dirty-004")
    found = json.loads(result_file(study, METER, "meter.json").read_text())
    assert (found["shown"], found["reference"]) == ("each model's own pictures of seed 1", "benign")
    assert [model["name"] for model in found["models"]] == ["benign", "dirty-002", "dirty-004"]
    relative = found["models"][1]["measures"]["sensitivity"]["groups"]["all"]["relative"]["value"]
    assert 0 < relative != 1
    assert of(study, METER).state == DONE
    replace(study, seeds=(2,)).write()
    why = "changed: picture_seed; its pictures come first"
    assert of(Study.load(study.folder), METER).of("benign").why == why
    assert of(Study.load(study.folder), METER).state == STALE
