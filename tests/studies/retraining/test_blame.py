"""Pairs that are blamed for a concept, and what models trained without them tell of the blame."""

import json
import shutil

import pandas
import pytest
from typer.testing import CliRunner

import explorer.cli.blame  # noqa: F401 - registers the commands
from explorer.cli.application import application
from explorer.core.provenance import ManifestError
from explorer.defence.recipe import read_recipe
from explorer.pairs.pair_set import PairSet
from explorer.studies.blame import _mentions, blame_scores
from explorer.studies.blame_grading import (
    OPPOSITE,
    PREDICTS,
    UNTOLD,
    UNTRAINED,
    _words,
    grade_blame,
    graded_blame_file,
    write_lists,
)
from explorer.studies.filtering import scored_pairs
from explorer.studies.results import EVALUATION, RETRAINED, step_folder, writing_step
from explorer.studies.retrained_results import retrained_results
from explorer.studies.retraining import retrain
from explorer.studies.running import RunRequest, run_study
from explorer.studies.study import Study
from explorer.training.sample_loss import encoded_pictures
from tests.studies.retraining.conftest import ARM


def test_a_list_whose_model_was_trained_is_not_told_apart_where_no_concept_differs():
    assert _words(None) == UNTRAINED
    assert _words({"broken": {"mean": 0.0, "low": None, "high": None}}) == UNTOLD
    assert _words({"broken": {"mean": 0.2, "low": 0.1, "high": 0.3}}) == PREDICTS


def test_what_captions_mention_is_found_for_each_concept():
    table = pandas.DataFrame({"concepts": [["cat", "dog"], [], ["dog"], ["cow"]]})
    found = _mentions(table, ["dog", "cat", "owl", "dog"])
    assert found.tolist() == [[True, False, True, False], [True, False, False, False], [False] * 4,
                              [True, False, True, False]]  # fmt: skip


def test_pairs_are_blamed_by_captions_and_by_gradients(study):
    concept = study.concept_list().names[0]
    asked = ["study", "blame", str(study.folder), ARM, concept, "--pairs", "12", "--shown", "3"]
    result = CliRunner().invoke(application, [*asked, "--json"])
    assert result.exit_code == 0, (result.exception, result.output)
    found = json.loads(result.stdout)
    assert [(each["name"], each["measured"]) for each in found["scores"]] == [
        ("co_mention", 40), ("neighbourhood", 40), ("gradient", 12),
    ]  # fmt: skip
    for score in found["scores"]:
        values = [pair["score"] for pair in score["pairs"]]
        assert values == sorted(values, reverse=True)
        assert len(values) == 3
        assert 0 <= score["poison_auc"] <= 1
    mentioned = found["scores"][0]["pairs"][0]
    table = PairSet.load(study.arm(ARM).pairs).table
    assert concept in table["concepts"].iloc[mentioned["row"]]
    assert table["uid"].iloc[mentioned["row"]] == mentioned["uid"]
    assert found == json.loads(CliRunner().invoke(application, [*asked, "--json"]).stdout)
    stored = json.loads((study.folder / "blame" / ARM / f"{concept}.json").read_text(encoding="utf-8"))
    assert stored == {"version": 1, **found}
    assert "is not known" in CliRunner().invoke(application, asked).stdout
    with pytest.raises(ValueError, match="concept is 'unicorn'"):
        blame_scores(study, ARM, ["unicorn"])


def test_pictures_are_encoded_once_for_models_of_one_autoencoder(study, monkeypatch):
    encoded = []

    def counting(pipeline, images):
        encoded.append(len(images))
        return encoded_pictures(pipeline, images)

    monkeypatch.setattr("explorer.studies.blame.encoded_pictures", counting)
    blame_scores(study, ARM, [study.concept_list().names[0]], pairs=12)
    assert encoded == [12, len(study.seeds)]


@pytest.fixture
def evaluated(study):
    """A copy with an evaluation by which the arm draws the last two concepts worse than the control."""
    folder = study.folder.with_name("graded")
    shutil.copytree(study.folder, folder)
    copy = Study.load(folder)
    names = copy.concept_list().names
    right = {"benign": dict.fromkeys(names, 1.0), ARM: {name: 0.2 * (name not in names[-2:]) for name in names}}
    models = [{"name": name, "per_concept": values} for name, values in right.items()]
    with writing_step(copy, EVALUATION, settings={}, inputs={}) as place:
        (place / "evaluation.json").write_text(json.dumps({"models": models}), encoding="utf-8")
    yield copy
    shutil.rmtree(folder)


def test_blame_is_graded_by_models_trained_without_what_each_score_blames(evaluated, recipe, monkeypatch):
    asked = ["study", "blame-lists", str(evaluated.folder), ARM, "--broken", "2", "--pairs", "12", "--leave-out", "5"]
    result = CliRunner().invoke(application, [*asked, "--json"])
    assert result.exit_code == 0, (result.exception, result.output)
    made = json.loads(result.stdout)
    assert made["concepts"] == list(evaluated.concept_list().names[-2:])
    assert [each["name"] for each in made["lists"]] == ["co_mention", "neighbourhood", "gradient", "random"]
    scored = scored_pairs(evaluated, ARM)
    removed = {}
    for each in made["lists"]:
        rule = read_recipe(json.loads((evaluated.folder / "blame" / ARM / "lists" / each["recipe"]).read_text()))
        left = scored.removal(rule).removed
        assert left.sum() == len(scored) - 12 + 5
        assert 0 <= each["poison"] <= 5
        removed[each["name"]] = rule
    assert removed["gradient"] != removed["random"]
    shutil.rmtree(step_folder(evaluated, EVALUATION))  # it holds what was read above alone
    for name in ("random", "gradient"):
        retrain(evaluated, ARM, f"blame-{name}", removed[name], recipe)
    assert run_study(evaluated, RunRequest(steps=(RETRAINED,))).failed == {}
    graded = {each["name"]: each for each in grade_blame(evaluated, ARM)["lists"]}
    assert graded["gradient"]["words"] in (PREDICTS, OPPOSITE, UNTOLD)
    top = {name: graded[name]["top1"]["broken"]["mean"] for name in ("gradient", "random")}
    assert graded["gradient"]["less_random"]["broken"]["mean"] == pytest.approx(top["gradient"] - top["random"])
    assert (graded["co_mention"]["words"], graded["co_mention"]["top1"]) == (UNTRAINED, None)
    assert graded_blame_file(evaluated, ARM).is_file()
    shown = CliRunner().invoke(application, ["study", "blame-graded", str(evaluated.folder), ARM]).stdout
    assert "random: poison" in shown
    assert UNTRAINED in shown
    before = (graded_file := graded_blame_file(evaluated, ARM)).read_bytes()
    results = retrained_results(evaluated)
    results["arms"][ARM]["models"] = []
    monkeypatch.setattr("explorer.studies.blame_grading.retrained_results", lambda study: results)
    with pytest.raises(ValueError, match="blame-gradient, blame-random were graded and are not among"):
        grade_blame(evaluated, ARM)
    assert graded_file.read_bytes() == before


@pytest.mark.parametrize("name", ["AC/DC", "24/7"])
def test_a_concept_that_no_file_can_be_called_is_refused_before_the_work(evaluated, monkeypatch, name):
    for module in ("blame", "blame_grading"):
        monkeypatch.setattr(f"explorer.studies.{module}.blame_scores", lambda *_, **__: pytest.fail("hours of work"))
    monkeypatch.setattr("explorer.studies.blame_grading.broken_concepts", lambda *_: ["hat", name])
    asked = CliRunner().invoke(application, ["study", "blame", str(evaluated.folder), ARM, name])
    assert "expected a name that a file can have" in str(asked.exception)
    with pytest.raises(ValueError, match=f"concept is '{name}': expected a name that a file can have"):
        write_lists(evaluated, ARM, concepts=2, pairs=12, left_out=5, shown=3)


def test_what_cannot_be_blamed_for_is_named(evaluated):
    with pytest.raises(ValueError, match="9999 broken concepts: expected from 1 to"):
        write_lists(evaluated, ARM, concepts=9999, pairs=12, left_out=5, shown=3)
    with pytest.raises(ValueError, match="12 of 12 candidates"):
        write_lists(evaluated, ARM, concepts=1, pairs=12, left_out=12, shown=3)
    with pytest.raises(ManifestError, match=r"manifest\.json is missing"):
        grade_blame(evaluated, ARM)


@pytest.mark.parametrize("pairs", [0, 100])
def test_more_to_leave_out_than_the_set_has_is_refused_before_any_gradient(evaluated, monkeypatch, pairs):
    monkeypatch.setattr("explorer.studies.blame._gradient_scores", lambda *_: pytest.fail("hours of work"))
    told = rf"50 of 40 candidates, drawn from the 40 training pairs of {ARM}, are to be left out: expected fewer"
    with pytest.raises(ValueError, match=told):
        write_lists(evaluated, ARM, concepts=1, pairs=pairs, left_out=50, shown=3)
