"""What is noticed when something changes that results hang on, and what is said of results that are of before."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from explorer.cli.application import application, load_commands
from explorer.core.provenance import MANIFEST_NAME, read_manifest, write_json
from explorer.studies.packing import export_study, import_results
from explorer.studies.recorded import CAME_LATER
from explorer.studies.results import EVALUATION, METER, PICTURES, SCORES, result_file, step_folder
from explorer.studies.running import RunRequest, run_study
from explorer.studies.state import DONE, STALE, stale_steps
from explorer.studies.study import CONCEPTS_NAME
from tests.studies.four_arms.test_run import states


def edit(path, **changes):
    write_json(path, json.loads(path.read_text(encoding="utf-8")) | changes)


@pytest.mark.parametrize("changed", ["vae/config.json", "tokenizer/lexicon.json"])
def test_another_configuration_of_a_base_makes_stale_what_was_drawn_with_it(study, changed):
    path = study.folder.parent / "models" / "benign" / changed
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert states(study, PICTURES) == dict.fromkeys(states(study, PICTURES), STALE) | {"photographs": "cannot"}
    assert "changed: configurations" in stale_steps(study)[PICTURES]
    assert {EVALUATION, METER} <= stale_steps(study).keys()


def test_pictures_of_two_configurations_are_not_mixed(study):
    edit(study.folder.parent / "models" / "benign" / "vae" / "config.json", scaling_factor=0.5)
    more = replace(study, seeds=(0, 1, 2))
    more.write()
    told = []
    run_study(more, RunRequest(steps=(PICTURES,)), lambda progress: told.append(progress.message))
    assert any("seed 0 is drawn anew, since it was drawn with other configurations" in message for message in told)


def test_what_earlier_releases_did_not_record_is_not_taken_for_changed(study):
    for step in (PICTURES, EVALUATION, METER):
        folder = step_folder(study, step)
        manifest = read_manifest(folder)
        inputs = manifest["config"]["inputs"]
        manifest["config"]["inputs"] = {name: found for name, found in inputs.items()
                                        if not name.removeprefix("loss model ").startswith(CAME_LATER)}  # fmt: skip
        assert len(manifest["config"]["inputs"]) < len(inputs)
        write_json(folder / MANIFEST_NAME, manifest)
    assert stale_steps(study) == {}


def test_other_concepts_make_the_scores_stale_whose_shares_are_by_concept(study):
    path = study.folder / CONCEPTS_NAME
    path.write_text("\n".join(path.read_text(encoding="utf-8").splitlines()[:-1]) + "\n", encoding="utf-8")
    assert "changed: concept names" in stale_steps(study)[SCORES]
    before = json.loads(result_file(study, SCORES, "alignment.json").read_text(encoding="utf-8"))
    run_study(study, RunRequest(steps=(SCORES,)))
    after = json.loads(result_file(study, SCORES, "alignment.json").read_text(encoding="utf-8"))
    shares = [len(each["sets"][0]["true_shares"]) for each in (before, after)]
    assert shares[0] == shares[1] + 1
    assert set(states(study, SCORES).values()) == {DONE, "cannot"}


def test_figures_of_before_are_told_and_not_packed(study, tmp_path):
    load_commands()
    asked = ["study", "difference", str(study.folder), "--first", "dirty-002", "--second", "benign", "--group", "all"]
    before = CliRunner().invoke(application, asked)
    assert (before.exit_code, before.stderr) == (0, "")
    export_study(study, tmp_path / "results.zip")
    replace(study, steps=3).write()
    after = CliRunner().invoke(application, asked)
    assert after.stdout == before.stdout
    assert "evaluation is stale, its figures are of before (" in after.stderr
    assert "changed: steps" in after.stderr
    with pytest.raises(ValueError, match=r"is not of what study\.toml says now \(.*changed: .*steps"):
        export_study(replace(study, steps=3), tmp_path / "again.zip")
    assert not (tmp_path / "again.zip").exists()
    imported = import_results(tmp_path / "results.zip", tmp_path / "other")
    assert stale_steps(imported) == {}
    assert "changed: steps" in stale_steps(replace(imported, steps=3))[EVALUATION]
