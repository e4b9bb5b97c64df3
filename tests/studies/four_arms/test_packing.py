"""Results of a study in a file for another machine: what it holds, what it fills, and what is refused."""

import shutil
from dataclasses import replace

import pytest

from explorer.core.provenance import ManifestError
from explorer.studies.packing import export_study, import_results
from explorer.studies.results import EVALUATION, PICTURES, RETRAINED, SCORES, STEPS, result_file, step_folder
from explorer.studies.running import RunRequest, run_study
from explorer.studies.state import UNCHECKED, study_state
from tests.studies.four_arms.test_run import ALL_DONE, states


def test_a_pack_holds_results_and_no_place(study, tmp_path):
    pack = tmp_path / "out" / "results.zip"
    steps = export_study(study, pack)
    assert steps == [step for step in STEPS if step not in (PICTURES, RETRAINED)]
    (tmp_path / "other").mkdir()
    other = import_results(pack, tmp_path / "other")
    assert str(study.folder.parent) not in (other.folder / "study.toml").read_text()
    assert [(arm.checkpoint, arm.pairs) for arm in other.arms] == [(None, None)] * 4
    assert other.arm("dirty-002").poison.concept_count == 2
    assert not other.arm("photographs").poison.recorded
    assert states(other, EVALUATION)["benign"] == UNCHECKED
    for step in steps:
        for path in step_folder(study, step).rglob("*"):
            if path.is_file() and path.name != "manifest.json":
                name = path.relative_to(step_folder(study, step)).as_posix()
                assert result_file(other, step, name).read_bytes() == path.read_bytes()


def test_a_pack_fills_a_study_of_the_same_arms_and_overwrites_nothing(study, tmp_path):
    export_study(study, tmp_path / "results.zip", pictures=True)
    with pytest.raises(ValueError, match=r"has scores, graphs, .* already"):
        import_results(tmp_path / "results.zip", study.folder)
    shutil.rmtree(study.results)
    import_results(tmp_path / "results.zip", study.folder)
    assert {state.step: state.state for state in study_state(study)} == ALL_DONE
    assert run_study(study, RunRequest()).made == {}
    replace(study, arms=study.arms[:2]).write()
    shutil.rmtree(study.results)
    with pytest.raises(ValueError, match="is of other arms than"):
        import_results(tmp_path / "results.zip", study.folder)


def test_a_changed_file_is_neither_packed_nor_unpacked(study, tmp_path):
    import zipfile

    export_study(study, tmp_path / "results.zip")
    with zipfile.ZipFile(tmp_path / "results.zip") as whole, zipfile.ZipFile(tmp_path / "bad.zip", "w") as bad:
        for name in whole.namelist():
            content = whole.read(name)
            bad.writestr(name, content + b" " if name.endswith("evaluation.json") else content)
    with pytest.raises(ValueError, match=r"evaluation\.json is not as its hash says"):
        import_results(tmp_path / "bad.zip", tmp_path / "other")
    assert not (tmp_path / "other").exists()
    (step_folder(study, SCORES) / "alignment.json").write_text("{}")
    with pytest.raises(ManifestError, match=r"alignment\.json was changed"):
        export_study(study, tmp_path / "again.zip")
    assert not (tmp_path / "again.zip").exists()
