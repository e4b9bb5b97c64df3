"""A run that is cut off between two arms of a step loses none that was finished."""

from dataclasses import replace

import pytest

from explorer.core.provenance import MANIFEST_NAME
from explorer.studies.results import FILTERS, GRAPHS, METER, RECEIPTS, SCORES, step_folder
from explorer.studies.running import RunRequest, run_study
from explorer.studies.steps import graphs

TOLD = "finished before the last run was cut off: "


def files_of(folder):
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST_NAME)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def cut_off(study, step):
    """The step is begun anew and stopped as soon as one arm is finished; returns that arm's name."""
    (step_folder(study, step) / MANIFEST_NAME).unlink()
    receipts = study.results / f".{step}.part" / RECEIPTS

    def stop(progress):
        if any(receipts.glob("*.json")):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(study, RunRequest(steps=(step,)), stop)
    (receipt,) = receipts.glob("*.json")
    return receipt.stem


def run_again(study, step):
    """What the next run tells, and which tasks it reports the progress of."""
    heard = []
    assert run_study(study, RunRequest(steps=(step,)), heard.append).failed == {}
    return [each.message for each in heard if each.message], {each.task for each in heard}


def test_the_meter_goes_on_with_the_next_model(study):
    whole = files_of(step_folder(study, METER))
    model = cut_off(study, METER)
    told, tasks = run_again(study, METER)
    assert f"{TOLD}{model}" in told
    assert model not in tasks
    assert files_of(step_folder(study, METER)) == whole


@pytest.mark.parametrize("step", [SCORES, GRAPHS, FILTERS])
def test_the_next_run_goes_on_with_the_next_arm(study, step):
    whole = files_of(step_folder(study, step))
    arm = cut_off(study, step)
    (mark,) = (path for path in (study.results / f".{step}.part").glob(f"{arm}*"))
    written = mark.stat().st_ino
    told, tasks = run_again(study, step)
    assert f"{TOLD}{arm}" in told
    assert step != SCORES or "structure distances" in tasks
    assert (step_folder(study, step) / mark.name).stat().st_ino == written, "the arm was made again"
    assert files_of(step_folder(study, step)) == whole, "and receipts are no results"


def test_what_was_finished_of_something_else_is_made_again(study):
    cut_off(study, SCORES)
    replace(study, loss_pairs=study.loss_pairs + 1).write()
    told, _ = run_again(type(study).load(study.folder), SCORES)
    assert not any(each.startswith(TOLD) for each in told)
    replace(study).write()
    arm = cut_off(study, SCORES)
    table = study.results / f".{SCORES}.part" / f"{arm}.parquet"
    table.write_bytes(table.read_bytes()[:-1])
    (table.parent / "left over").write_text("by something else")
    told, _ = run_again(study, SCORES)
    assert not any(each.startswith(TOLD) for each in told)
    assert not (step_folder(study, SCORES) / "left over").exists()


def test_an_arm_that_fails_half_way_leaves_nothing_behind(study, monkeypatch):
    write = graphs.write_graphs

    def full(folder, *, name, **given):
        write(folder, name=name, **given)
        if name == "dirty-002":
            raise OSError("the disk is full")

    monkeypatch.setattr(graphs, "write_graphs", full)
    (step_folder(study, GRAPHS) / MANIFEST_NAME).unlink()
    report = run_study(study, RunRequest(steps=(GRAPHS,)))
    assert report.failed == {"graphs of dirty-002": "the disk is full"}
    assert {path.name for path in step_folder(study, GRAPHS).iterdir()} == {"benign", "photographs", MANIFEST_NAME}
