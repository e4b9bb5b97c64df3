"""What is chosen on some studies is held against others: the shipped runs of equal share and of the full recipe."""

import json

import pytest
from typer.testing import CliRunner

from explorer.cli.application import application, load_commands
from explorer.core.provenance import ROOT
from explorer.studies.confirmation import JUDGES_OWN, confirmation
from explorer.studies.ordering import OF_PAIRS, ordering
from explorer.studies.study import Study

SHARE = ROOT / "assets" / "experiments" / "equal-share"


def test_the_best_of_the_first_studies_is_chosen_whatever_the_others_say():
    chosen_on, others = [Study.load(SHARE / f"seed-{run}") for run in (1, 2)], [Study.load(SHARE / "seed-3")]
    found = confirmation(chosen_on, others)
    first, second = (ordering(studies)["correlations"] for studies in (chosen_on, others))
    names = [each["name"] for each in found["candidates"]]
    assert not JUDGES_OWN & set(names)
    assert not {*OF_PAIRS, "poisoned_concepts"} & set(names)
    assert first["poisoned_concepts"] is not None, "it is measured of all, and orders them well"
    assert {"accuracy", "utility", "clip_similarity"} < JUDGES_OWN
    strength = [abs(first[name]["value"]) for name in names]
    assert strength == sorted(strength, reverse=True)
    for each in found["candidates"]:
        assert (each["chosen_on"], each["held_against"]) == (first[each["name"]], second[each["name"]])
    better = [name for name in names if abs(second[name]["value"]) > abs(second[names[0]]["value"])]
    assert found["place"] == 1 + len(better)
    turned = confirmation(others, chosen_on)["candidates"]
    assert turned[0]["chosen_on"]["n"] == 6


def test_nothing_in_common_is_told():
    study, other = (Study.load(ROOT / "assets" / "experiments" / name) for name in ("seed-4", "seed-5"))
    with pytest.raises(ValueError, match="no arm has 'nothing'"):
        confirmation([study], [other], outcome="nothing")
    with pytest.raises(ValueError, match="nothing that is measured of models orders mask_area of all concepts in both"):
        confirmation([study], [other], outcome="mask_area", group="all")  # of the scenes, whatever the model
    with pytest.raises(ValueError, match=r"seed-4 is on both sides: expected other studies"):
        confirmation([study, other], [study])
    with pytest.raises(ValueError, match=r"seed-5 is given twice: expected each once"):
        confirmation([study], [other, other])
    judged_again = Study.load(ROOT / "assets" / "experiments" / "judge-four" / "seed-4")
    with pytest.raises(ValueError, match="benign of judge-four-4 is the same model as benign of seed-4"):
        confirmation([study], [other, judged_again])


def test_the_page_says_what_its_commands_print():
    full = [Study.load(ROOT / "assets" / place)
            for place in ("studies/iconworld", "experiments/seed-4", "experiments/seed-5")]  # fmt: skip
    chosen_on = [Study.load(SHARE / f"seed-{run}") for run in (1, 2)]
    for others, place in (([Study.load(SHARE / "seed-3")], 1), (full, 5)):
        found = confirmation(chosen_on, others)
        names = [each["name"] for each in found["candidates"]]
        assert names[:5] == ["word_mass", "late_word_mass", "sensitivity", "guidance", "late_contiguity"]
        assert (found["place"], len(names)) == (place, 7)


def test_the_command_says_what_is_chosen():
    load_commands("study")
    call = ["study", "order", str(SHARE / "seed-1"), str(SHARE / "seed-2"), "--confirm", str(SHARE / "seed-3")]
    told = CliRunner().invoke(application, call)
    found = json.loads(CliRunner().invoke(application, [*call, "--json"]).output)
    last = told.output.strip().splitlines()[-1]
    assert last == f"chosen: {found['candidates'][0]['name']}; there it is number {found['place']} of " \
                   f"{len(found['candidates'])}"  # fmt: skip
