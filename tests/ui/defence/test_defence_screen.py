"""Payload, the library's answers and files of the screen Defence."""

import io
import json

import numpy as np
import pytest

from explorer.core.provenance import ManifestError
from explorer.defence.recipe import read_recipe
from explorer.defence.report import held_out_report
from explorer.studies.filtering import report_filter, scored_pairs
from explorer.ui.screens.defence.answers import export_filtered, filter_answer, held_out_answer
from explorer.ui.screens.defence.payload import defence_payload, opening_arm
from explorer.ui.shell.missing_steps import MissingStepError

RECIPE = {"score": "clip_similarity", "remove": "lowest", "cut": {"rank": 7}}


@pytest.fixture
def opened(scored, open_study):
    return open_study(scored.folder)


def test_arms_saved_filters_and_what_is_missing_are_told(opened):
    payload = defence_payload(opened)
    assert [arm["name"] for arm in payload["arms"]] == ["theirs", "dirty"]
    dirty = payload["arms"][-1]
    assert dirty["graphs"]["name"] == "dirty"
    assert payload["arms"][0]["graphs"] is None
    assert dirty["command"].endswith("scored dirty --recipe filter.json")
    assert [saved["name"] for saved in payload["saved"]] == ["kept"]
    assert payload["retrained"]["strip_url"].startswith("/study/scored/retrained/strip.png?v=")
    assert opening_arm(opened) == "dirty"


def test_without_the_step_its_command_is_named(tmp_path, make_study, open_study):
    with pytest.raises(MissingStepError, match="filters"):
        defence_payload(open_study(make_study(tmp_path / "bare").folder))


def test_the_answer_is_the_librarys_and_lists_of_pairs_are_read(opened, scored):
    stamp = defence_payload(opened)["arms"][-1]["stamp"]
    assert filter_answer(opened, "dirty", json.dumps(RECIPE)) == report_filter(scored, "dirty", read_recipe(RECIPE))
    listed = {"all": [RECIPE, {"rows": f"{stamp}.gAQA"}]}  # rows 1 and 2
    named = filter_answer(opened, "dirty", json.dumps(listed), stamp)["recipe"]
    assert named["all"][1] == {"uids": [f"{1:032x}", f"{2:032x}"]}


def test_a_threshold_is_chosen_on_one_half_as_the_library_does(opened, scored):
    stamp = defence_payload(opened)["arms"][-1]["stamp"]
    pairs = scored_pairs(scored, "dirty")
    for criterion in ("f1", "cut"):
        told = held_out_answer(opened, "dirty", stamp, json.dumps(RECIPE), criterion)
        assert told == held_out_report(pairs, read_recipe(RECIPE), criterion, 0)[1]
    with pytest.raises(ValueError, match="expected a filter of one score"):
        held_out_answer(opened, "dirty", stamp, json.dumps({"any": [RECIPE, RECIPE]}), "f1")
    with pytest.raises(ValueError, match="criterion is 'luck'"):
        held_out_answer(opened, "dirty", stamp, json.dumps(RECIPE), "luck")


@pytest.mark.parametrize(
    ("recipe", "stamp", "words"),
    [
        ("{", None, "no JSON"),
        ("[]", None, "expected an object"),
        ('{"rows": "other.gAQA"}', None, "lists pairs of other scores"),
        ('{"score": "taste", "remove": "lowest", "cut": {"rank": 1}}', None, "score is 'taste'"),
        (json.dumps(RECIPE), "00000000", "measured again since"),
    ],
)
def test_what_cannot_be_answered_is_told(opened, recipe, stamp, words):
    with pytest.raises(ValueError, match=words):
        filter_answer(opened, "dirty", recipe, stamp)


def test_an_arm_that_is_not_scored_is_refused(opened):
    with pytest.raises(ManifestError, match="does not list"):
        filter_answer(opened, "nobody", json.dumps(RECIPE))


def test_files_hold_what_the_filter_keeps(opened, scored):
    pairs = scored_pairs(scored, "dirty")
    removed = pairs.removal(read_recipe(RECIPE)).removed
    stamp = defence_payload(opened)["arms"][-1]["stamp"]
    found = np.load(io.BytesIO(export_filtered(opened, "dirty", stamp, json.dumps(RECIPE), form="npy", which="kept")))
    assert [int(low) for _, low in found.tolist()] == np.flatnonzero(~removed).tolist()
