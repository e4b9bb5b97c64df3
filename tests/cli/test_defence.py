"""``explorer study filter``: what is printed, saved, written and refused. ``tests/studies`` tests what is done."""

import json

import numpy as np
import pandas
import pytest
from typer.testing import CliRunner

import explorer.cli.defence  # noqa: F401 - registers the command
from explorer.cli.application import application
from explorer.defence.filter_files import Score, write_filters
from explorer.defence.scores import DESCRIPTIONS
from explorer.pairs.uid_files import read_uids
from explorer.studies.results import FILTERS, writing_step
from explorer.studies.specs import ExtractorSpec
from explorer.studies.study import Arm, Study

PAIRS = 40
NAMES = ("clip_similarity", "feature_distance")


@pytest.fixture
def folder(tmp_path):
    """A study of one arm whose pairs have made-up scores: the first ten are poison, and low."""
    return made_up(tmp_path / "study", np.arange(PAIRS) < 10)


def made_up(place, poison):
    study = Study(folder=place, name="made up", extractor=ExtractorSpec(), arms=(Arm(name="arm"),))
    study.write()
    values = np.arange(PAIRS, dtype=np.float32)
    table = pandas.DataFrame(
        {"uid": [f"u{number}" for number in range(PAIRS)], "caption": "a cat", "concepts": [["cat"]] * PAIRS,
         "is_poison": poison, "poisoned_concept": None, "target_concept": None}
    )  # fmt: skip
    scores = {
        name: Score(
            values=values if name == "clip_similarity" else 1 - values / PAIRS, description=DESCRIPTIONS[name],
            provenance="made up", kept_structure_ad=np.linspace(0.4, 0.2, PAIRS + 1),
        )
        for name in NAMES
    }  # fmt: skip
    alignment = {"alpha": 0.8, "convention": "authors", "feature_ad": 0.5, "structure_ad": 0.4, "ad": 0.48}
    with writing_step(study, FILTERS, settings={}, inputs={}) as step:
        write_filters(step / "arm", name="arm", table=table, rows=np.arange(PAIRS), scores=scores,
                      alignment=alignment, data_hash="made-up")  # fmt: skip
    return study.folder


def run(folder, *arguments):
    return CliRunner().invoke(application, ["study", "filter", str(folder), "arm", *map(str, arguments)])


def told(folder, *arguments):
    result = run(folder, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_without_a_filter_all_scores_are_listed(folder):
    assert [each["name"] for each in told(folder)["scores"]] == list(NAMES)
    lines = run(folder).stdout.splitlines()
    assert lines[0].startswith("clip_similarity: ")
    assert lines[1] == "  auc  1.0000 (1.0000 to 1.0000)"


def test_a_cut_is_told_with_its_grade(folder):
    report = told(folder, "--score", "clip_similarity", "--rank", 8)
    assert report["recipe"] == {"score": "clip_similarity", "remove": "lowest", "cut": {"rank": 8}, "quota": None}
    assert (report["removed"], report["grade"]["recall"]["value"], report["grade"]["precision"]["value"]) == (8, 0.8, 1)
    assert report["alignment"]["structure_ad"] == pytest.approx(0.36)
    assert report["at_half_the_poison"]["benign_lost_share"]["value"] == 0
    lines = run(folder, "--score", "clip_similarity", "--budget", 0.2).stdout.splitlines()
    assert lines[0].startswith("removed ")
    assert "8 of 40 pairs" in lines[0]


def test_a_filter_is_saved_compared_and_leads_to_the_training(folder):
    report = told(folder, "--score", "clip_similarity", "--rank", 8, "--name", "eight")
    assert report["next"] == f"python -m explorer study retrain {folder} arm --filter eight"
    compared = told(folder, "--score", "clip_similarity", "--threshold", 5, "--against", "eight")["compared"]
    assert (compared["both"]["pairs"], compared["only_against"]["pairs"]) == (5, 3)
    assert told(folder, "--filter", "eight")["removed"] == 8
    assert told(folder, "--recipe", folder / "filters" / "eight.json")["removed"] == 8


def test_the_training_that_comes_next_leaves_out_what_was_told(folder):
    eight = folder / "filters" / "eight.json"
    told(folder, "--score", "clip_similarity", "--rank", 8, "--name", "eight")
    for filter_options in (("--filter", "eight"), ("--recipe", eight)):
        report = told(folder, *filter_options)
        assert report["next"].endswith(f"study retrain {folder} arm {filter_options[0]} {filter_options[1]}")
        for choose in ("f1", "cut"):
            report = told(folder, *filter_options, "--choose", choose)
            assert report["removed"] != 8, "the recipe's own cut leaves out another number"
            assert report["next"] == "save the filter with --name NAME to fine-tune on what it leaves"
            report = told(folder, *filter_options, "--choose", choose, "--name", "chosen")
            assert report["next"] == f"python -m explorer study retrain {folder} arm --filter chosen"
            assert told(folder, "--filter", "chosen")["removed"] == report["removed"]


def test_a_filter_by_scores_that_were_brought_leads_to_no_training_that_lacks_them(folder, tmp_path):
    own = tmp_path / "own.parquet"
    pandas.DataFrame({"uid": [f"u{number}" for number in range(PAIRS)], "tox": np.arange(PAIRS)}).to_parquet(own)
    by_own = {"score": "user:tox", "remove": "highest", "cut": {"rank": 5}, "quota": None}
    mixed = tmp_path / "mixed.json"
    mixed.write_text(json.dumps({"any": [{"uids": ["u0"]}, {"all": [by_own]}]}), encoding="utf-8")
    given = ("--scores", own, "--column", "tox")
    for asked in (("--score", "user:tox", "--rank", 5, "--name", "tox"), ("--recipe", mixed)):
        found = told(folder, *asked, *given)["next"]
        assert "study retrain" not in found
        assert "user:tox" in found
        assert f"study run {folder} filters" in found
    path = tmp_path / "removed.parquet"
    told(folder, "--filter", "tox", *given, "--export", path, "--which", "removed")
    assert read_uids(path) == [f"u{number}" for number in range(35, 40)]
    assert "retrain" in told(folder, "--score", NAMES[0], "--rank", 5, "--name", "clip", *given)["next"]


def test_lists_of_pairs_are_written_once(folder, tmp_path):
    path = tmp_path / "removed.parquet"
    cut = ("--score", "clip_similarity", "--rank", 3, "--export", path, "--which", "removed")
    assert told(folder, *cut)["exported"] == {"file": str(path), "which": "removed"}
    assert read_uids(path) == ["u0", "u1", "u2"]
    assert "exists already" in str(run(folder, *cut).exception)
    assert "ends in .parquet" in str(run(folder, *cut[:4], "--export", tmp_path / "list.txt").exception)


def test_own_scores_and_a_chosen_threshold(folder, tmp_path):
    own = tmp_path / "own.parquet"
    pandas.DataFrame({"uid": [f"u{number}" for number in range(20)], "badness": np.arange(20) < 10}).to_parquet(own)
    given = ("--scores", own, "--column", "badness")
    report = told(folder, "--score", "user:badness", "--rank", 10, *given)
    assert (report["removed"], report["unscored"], report["grade"]["recall"]["value"]) == (10, 20, 1)
    chosen = told(folder, "--score", "clip_similarity", "--choose", "f1")
    assert chosen["held_out"]["graded_on"]["pairs"] + chosen["held_out"]["chosen_on"]["pairs"] == PAIRS
    assert list(chosen["recipe"]["cut"]) == ["threshold"]
    assert any(
        line.startswith("graded_on ") for line in run(folder, "--score", NAMES[0], "--choose", "f1").stdout.split("\n")
    )
    pandas.DataFrame({"uid": ["other"], "badness": [1.0]}).to_parquet(own)
    assert "of none of the 40 pairs" in str(run(folder, *given).exception)


def test_a_threshold_is_graded_on_no_half_where_nobody_recorded_the_poison(tmp_path):
    folder = made_up(tmp_path / "study", None)
    lines = run(folder, "--score", "clip_similarity", "--rank", 10, "--choose", "cut").stdout.splitlines()
    halves = [line for line in lines if line.startswith(("chosen_on ", "graded_on "))]
    assert ["unknown: it takes pairs known to be poison" in line for line in halves] == [True, True], lines
    assert not any("0.0000" in line for line in halves)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--score", "clip_similarity"], "0 are given: expected one of them"),
        (["--score", "clip_similarity", "--rank", 1, "--budget", 0.1], "2 are given: expected one of them"),
        (["--score", "clip_similarity", "--rank", 1, "--choose", "f1"], "expected none of them"),
        (["--score", "none", "--rank", 1], "score is 'none'"),
        (["--rank", 1], "a cut is given without --score"),
        (["--choose", "f1"], "--choose is given without a filter"),
        (["--score", "clip_similarity", "--filter", "a"], "expected one of --score, --recipe and --filter"),
        (["--scores", "own.parquet"], "--scores FILE and --column NAME together"),
        (["--filter", "none"], "filter is 'none'"),
    ],
)
def test_what_does_not_go_together_is_refused(folder, arguments, problem):
    assert problem in str(run(folder, *arguments).exception)
