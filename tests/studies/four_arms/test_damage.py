"""Results whose files were changed or are missing."""

from explorer.studies.results import METER, step_folder
from explorer.studies.running import RunRequest, run_study


def test_a_run_makes_again_what_was_changed_or_is_missing(study):
    path = step_folder(study, METER) / "meter.json"
    before = path.read_bytes()
    path.write_text("{}")
    told = []
    report = run_study(study, RunRequest(steps=(METER,)), on_progress=told.append)
    assert report.failed == {}
    assert report.made[METER] == ("benign", "dirty-002", "no-pairs")
    assert any("meter is made again" in each.message and "meter.json" in each.message for each in told)
    assert path.read_bytes() == before
    report = run_study(study, RunRequest(steps=(METER,)))
    assert report.made == {}


def test_what_was_changed_and_cannot_be_made_again_is_told_and_kept(study):
    arm = study.arm("dirty-002")
    arm.checkpoint.rename(arm.checkpoint.with_name("moved"))
    path = step_folder(study, METER) / "meter.json"
    path.write_text("{}")
    report = run_study(study, RunRequest(steps=(METER,)))
    assert "meter.json" in report.failed[METER]
    assert "not made again, since what it was made from is not here" in report.failed[METER]
    assert path.read_text() == "{}"
    assert (path.parent / "manifest.json").is_file()
