"""A study from its models and pairs to its results: every step and arm, what becomes stale, what is lost by nothing."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from explorer.core.provenance import ROOT
from explorer.embeddings.universal_extractor import UniversalExtractor
from explorer.studies import running
from explorer.studies.inputs import StudyInputs
from explorer.studies.results import (
    COMPARISON,
    EVALUATION,
    FILM_STRIP,
    GRAPHS,
    METER,
    PICTURES,
    RETRAINED,
    SCORES,
    STEPS,
    result_file,
    step_folder,
)
from explorer.studies.running import RunRequest, run_study
from explorer.studies.specs import AestheticsSpec
from explorer.studies.state import CANNOT, DONE, MISSING, STALE, UNCHECKED, study_state
from explorer.studies.steps.evaluation import _readers
from explorer.studies.steps.listed import STEPS_BY_NAME
from explorer.studies.steps.scores import REPORT_NAME, alignment_reports
from explorer.studies.steps.step import StepWork
from explorer.studies.study import Study

ALL_DONE = dict.fromkeys(STEPS, DONE) | {RETRAINED: CANNOT}
"""No model was trained again."""


def edit(manifest, **changes):
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))


def states(study, step):
    return {arm.arm: arm.state for arm in of(study, step).arms}


def of(study, step):
    return next(each for each in study_state(study) if each.step == step)


def test_everything_that_can_be_done_is_done(made, study):
    _, report = made
    assert report.failed == {}
    assert {state.step: state.state for state in study_state(study)} == ALL_DONE
    assert states(study, SCORES) == {"benign": DONE, "dirty-002": DONE, "no-pairs": CANNOT, "photographs": DONE}
    assert states(study, PICTURES) == {"benign": DONE, "dirty-002": DONE, "no-pairs": DONE, "photographs": CANNOT}
    assert run_study(study, RunRequest()).made == {}


def test_results_are_those_of_the_arms(study):
    sets = json.loads(result_file(study, SCORES, "alignment.json").read_text())["sets"]
    assert [(each["name"], each["poisoned_concept_count"]) for each in sets] == [
        ("benign", 0), ("dirty-002", 2), ("photographs", None),
    ]  # fmt: skip
    evaluation = json.loads(result_file(study, EVALUATION, "evaluation.json").read_text())
    measured = {model["name"]: model["alignment_difficulty"] for model in evaluation["models"]}
    assert list(measured) == ["benign", "dirty-002", "no-pairs"]
    assert measured["no-pairs"] is None
    assert measured["benign"]["ad"] == pytest.approx(sets[0]["alignment_difficulty"]["ad"], rel=1e-6)
    strip = json.loads(result_file(study, FILM_STRIP, "film_strip.json").read_text())
    assert [model["name"] for model in strip["models"]] == ["benign", "dirty-002", "no-pairs"]
    assert json.loads(result_file(study, COMPARISON, "index.json").read_text())["columns"] == list(measured)


def test_without_a_named_control_no_model_gives_tau(study):
    assert json.loads(result_file(study, EVALUATION, "evaluation.json").read_text())["tau"] is not None
    replace(study, arms=tuple(replace(arm, control=False) for arm in study.arms), loss_pairs=0).write()
    study = Study.load(study.folder)
    assert EVALUATION in run_study(study, RunRequest(steps=(EVALUATION,))).made
    found = json.loads(result_file(study, EVALUATION, "evaluation.json").read_text())
    assert (found["tau"], found["tau_definition"]) == (None, None)
    assert "benign" in [model["name"] for model in found["models"] if model["poisoned"] is False]


@pytest.mark.parametrize("spoil", [lambda path: path.write_text("{}"), lambda path: path.unlink()])
def test_no_step_goes_on_without_the_reports_of_scores_that_are_done(study, spoil):
    spoil(step_folder(study, SCORES) / REPORT_NAME)
    for step in (EVALUATION, GRAPHS):
        shutil.rmtree(step_folder(study, step))
    told = []
    failed = run_study(study, RunRequest(steps=(EVALUATION, GRAPHS)), told.append).failed
    assert (failed.keys(), failed[GRAPHS]) == ({EVALUATION, GRAPHS}, "no arm's graphs could be drawn")
    assert "reports.json" in failed[EVALUATION]
    assert len([each for each in told if "reports.json" in each.message]) == 4, "evaluation, and graphs of three arms"
    shutil.rmtree(step_folder(study, SCORES))
    assert alignment_reports(study) == {}


def test_the_meter_compares_every_arm_with_the_control(study):
    found = json.loads(result_file(study, METER, "meter.json").read_text())
    assert (found["shown"], found["reference"]) == ("each model's own pictures of seed 0", "benign")
    measured = {model["name"]: model["measures"]["sensitivity"]["groups"]["all"] for model in found["models"]}
    assert list(measured) == ["benign", "dirty-002", "no-pairs"]
    # So few steps leave the moving averages of all three where they were: their weights are equal.
    assert [each["relative"]["value"] for each in measured.values()] == [1, 1, 1]
    assert measured["benign"]["mean"]["value"] > 0
    assert of(study, METER).of("benign").amount is None


def test_pairs_have_their_scores_and_some_a_loss(study):
    import pandas

    table = pandas.read_parquet(result_file(study, SCORES, "dirty-002.parquet"))
    assert {"uid", "sample_ad", "structure_distance", "feature_distance"} <= set(table)
    assert table["loss"].notna().sum() == study.loss_pairs
    sets = {each["name"]: each for each in json.loads(result_file(study, SCORES, "alignment.json").read_text())["sets"]}
    assert set(sets["benign"]["true_shares"].values()) <= {1, None}
    assert any(share < 1 for share in sets["dirty-002"]["true_shares"].values() if share is not None)
    assert "true_shares" not in sets["photographs"], "nobody says which of them are poison"


def test_another_k_measures_local_ad_again_and_nothing_else(study, monkeypatch):
    import pandas

    from explorer.training import sample_loss

    def table():
        return pandas.read_parquet(result_file(study, SCORES, "dirty-002.parquet"))

    before = table()
    assert before["picture_scatter"].notna().all()
    monkeypatch.setattr("explorer.studies.steps.scores.NEIGHBOURS", 3)
    monkeypatch.setattr(sample_loss, "sample_losses", lambda *arguments, **options: pytest.fail("measured again"))
    assert {state.step: state.state for state in study_state(study)} == {**ALL_DONE, SCORES: STALE}
    assert run_study(study, RunRequest(steps=(SCORES,))).failed == {}
    after = table()
    assert (after["picture_scatter"] != before["picture_scatter"]).any()
    unchanged = ["loss", "sample_ad", "structure_distance"]
    pandas.testing.assert_frame_equal(before[unchanged], after[unchanged])
    assert {state.step: state.state for state in study_state(study)} == ALL_DONE


@pytest.mark.slow
def test_processes_of_a_launcher_share_the_drawing(made, study):
    """Nothing is drawn that one process would not have drawn, to the bit."""
    shutil.rmtree(step_folder(study, PICTURES))
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "explorer", "study", "run"]
    done = subprocess.run(
        [sys.executable, *command, str(study.folder), PICTURES, "--json"], capture_output=True, text=True, check=False,
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["made"] == {PICTURES: ["benign", "dirty-002", "no-pairs"]}
    alone, together = (step_folder(Study.load(home), PICTURES) for home in (made[0] / "study", study.folder))
    drawn = sorted(path.relative_to(alone) for path in alone.glob("*/seed-*/drawing.safetensors"))
    assert len(drawn) == 6
    for path in drawn:
        assert (alone / path).read_bytes() == (together / path).read_bytes()
    assert of(study, PICTURES).state == DONE


def test_an_aesthetics_head_may_read_another_clip(study):
    head = study.folder / "head.safetensors"
    width = UniversalExtractor.load(study.extractor.folder).encode_texts(["a"]).shape[1]
    save_file({"weight": torch.zeros(1, width), "bias": torch.full((1,), 7.0)}, head)
    inputs = StudyInputs(replace(study, aesthetics=AestheticsSpec(head=head, folder=study.extractor.folder)))
    work = StepWork(inputs=inputs, settings={}, shared={}, arms={}, kept={})
    (reader,) = _readers(work, extractor=None)
    assert reader.read(np.zeros((1, 8, 8, 3), np.uint8))["aesthetic_scores"].tolist() == [7.0]
    own = StudyInputs(replace(study, aesthetics=AestheticsSpec(head=head)))
    assert inputs.of_readers != own.of_readers


def test_a_new_threshold_makes_the_evaluation_stale_and_nothing_else(study):
    replace(study, tau=0.2).write()
    study = Study.load(study.folder)
    found = {state.step: state.state for state in study_state(study)}
    assert found == ALL_DONE | {EVALUATION: STALE}
    assert "tau" in of(study, EVALUATION).of("benign").why
    report = run_study(study, RunRequest(steps=(EVALUATION,)))
    assert report.made == {EVALUATION: ("benign", "dirty-002", "no-pairs")}
    assert json.loads(result_file(study, EVALUATION, "evaluation.json").read_text())["tau"] == 0.2


def test_other_weights_make_one_arm_stale(study):
    checkpoint = study.arm("dirty-002").checkpoint
    weights = next((checkpoint / "unet").glob("*.safetensors"))
    tensors = load_file(weights)
    save_file({name: value * 1.01 for name, value in tensors.items()}, weights)
    edit(checkpoint / "manifest.json", files={})
    expected = {"benign": DONE, "dirty-002": STALE, "no-pairs": DONE, "photographs": CANNOT}
    assert states(study, PICTURES) == expected
    assert of(study, PICTURES).of("dirty-002").why == "changed: checkpoint of dirty-002"
    assert of(study, SCORES).state == DONE
    report = run_study(study, RunRequest(steps=(PICTURES,)))
    assert report.made == {PICTURES: ("dirty-002",)}
    assert of(study, EVALUATION).state == STALE


def test_a_moved_checkpoint_leaves_its_results_and_nothing_is_made_that_would_lose_them(study):
    shutil.move(study.arm("dirty-002").checkpoint, study.folder.parent / "elsewhere")
    arm = of(study, EVALUATION).of("dirty-002")
    assert arm.state == UNCHECKED
    assert "write its new place into study.toml" in arm.why
    replace(study, tau=0.2).write()
    study = Study.load(study.folder)
    report = run_study(study, RunRequest())
    assert "would be lost: changed: tau; its checkpoint is not at" in report.failed[EVALUATION]
    evaluation = json.loads(result_file(study, EVALUATION, "evaluation.json").read_text())
    assert "dirty-002" in [model["name"] for model in evaluation["models"]]


def test_a_changed_study_says_what_is_left_and_how_long(study):
    replace(study, seeds=(0, 1, 2)).write()
    pictures = of(Study.load(study.folder), PICTURES)
    assert pictures.state == STALE
    assert pictures.of("benign").why == "changed: seeds"
    assert pictures.of("benign").amount == 3 * 9  # eight concepts and one prompt of two
    assert pictures.seconds > 0
    assert of(Study.load(study.folder), EVALUATION).of("benign").waits


def test_an_arm_that_fails_loses_no_other(study, monkeypatch):
    from explorer.evaluation import drawings

    for step in (PICTURES, EVALUATION):
        shutil.rmtree(step_folder(study, step))
    draw = drawings.draw_missing

    def failing(checkpoint, *arguments, **options):
        if checkpoint.name == "dirty-002":
            raise ValueError("the disk of this one is broken")
        return draw(checkpoint, *arguments, **options)

    monkeypatch.setattr(drawings, "draw_missing", failing)
    request = RunRequest(steps=(PICTURES, EVALUATION))
    report = run_study(study, request)
    assert report.failed == {"pictures of dirty-002": "the disk of this one is broken"}
    assert report.made == dict.fromkeys((PICTURES, EVALUATION), ("benign", "no-pairs"))
    assert states(study, PICTURES) == {"benign": DONE, "dirty-002": MISSING, "no-pairs": DONE, "photographs": CANNOT}
    assert run_study(study, request).made == {}
    monkeypatch.undo()
    assert run_study(study, RunRequest(steps=(PICTURES,))).made == {PICTURES: ("dirty-002",)}


def test_drawn_seeds_are_not_drawn_again(study):
    drawing = step_folder(study, PICTURES) / "benign" / "seed-0" / "drawing.safetensors"
    before = drawing.stat().st_mtime_ns
    (step_folder(study, PICTURES) / "manifest.json").unlink()
    shutil.rmtree(step_folder(study, PICTURES) / "benign" / "seed-1")
    assert of(study, PICTURES).state == MISSING
    assert {arm.arm: arm.amount for arm in of(study, PICTURES).arms} == {
        "benign": 9, "dirty-002": 0, "no-pairs": 0, "photographs": None,
    }  # fmt: skip
    run_study(study, RunRequest(steps=(PICTURES,)))
    assert of(study, PICTURES).state == DONE
    assert drawing.stat().st_mtime_ns == before


def test_an_arm_that_is_gone_makes_its_results_stale(study):
    replace(study, arms=tuple(arm for arm in study.arms if arm.name != "no-pairs")).write()
    study = Study.load(study.folder)
    assert of(study, EVALUATION).state == STALE
    assert "no-pairs" in of(study, EVALUATION).why
    run_study(study, RunRequest())
    assert {state.step: state.state for state in study_state(study)} == ALL_DONE


def test_another_precision_makes_pictures_stale_where_it_is_asked_for(study):
    assert of(study, PICTURES).state == DONE
    asked = {state.step: state for state in study_state(study, "bf16")}
    assert asked[PICTURES].of("benign").why == "changed: precision"
    shutil.rmtree(step_folder(study, PICTURES))
    edit(step_folder(study, FILM_STRIP) / "manifest.json", config=asked_in_bf16(study))
    assert of(study, FILM_STRIP).state == DONE
    assert of(study, COMPARISON).of("benign").why == "changed: precision"


def asked_in_bf16(study):
    config = json.loads((step_folder(study, FILM_STRIP) / "manifest.json").read_text())["config"]
    return config | {"settings": config["settings"] | {"precision": "bf16"}}


def test_a_step_by_another_name_is_refused():
    with pytest.raises(ValueError, match="step is 'score': expected one of scores, graphs"):
        RunRequest(steps=("score",))


def test_graphs_are_drawn_of_every_arm_with_pairs(study):
    assert states(study, GRAPHS) == {"benign": DONE, "dirty-002": DONE, "no-pairs": CANNOT, "photographs": DONE}
    for arm in ("benign", "dirty-002", "photographs"):
        assert result_file(study, GRAPHS, f"{arm}/graphs.json").is_file()


def test_an_arm_that_memory_does_not_suffice_for_is_told_and_left_out(study, monkeypatch):
    def forward(self, *given, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    shutil.rmtree(study.results / SCORES)
    shutil.rmtree(study.folder / "features" / "photographs")
    monkeypatch.setattr("open_clip.model.CLIP.encode_image", forward)
    report = run_study(study, RunRequest(steps=(SCORES,)))
    assert report.made == {SCORES: ("benign", "dirty-002")}, "their features are cached"
    assert list(report.failed) == ["scores of photographs"]
    assert re.fullmatch(
        r"memory does not suffice .* 2.00 GiB\): .* --device cpu", report.failed["scores of photographs"]
    )


def test_a_step_that_memory_does_not_suffice_for_loses_no_other(study, monkeypatch):
    def lacking(work):
        raise torch.OutOfMemoryError("CUDA out of memory")

    for step in (SCORES, GRAPHS):
        shutil.rmtree(study.results / step)
    monkeypatch.setattr(
        running, "STEPS_BY_NAME", STEPS_BY_NAME | {GRAPHS: replace(STEPS_BY_NAME[GRAPHS], make=lacking)}
    )
    report = run_study(study, RunRequest(steps=(SCORES, GRAPHS)))
    assert list(report.made) == [SCORES]
    assert report.failed[GRAPHS].startswith(
        "memory does not suffice for the step graphs (CUDA out of memory): expected"
    )
