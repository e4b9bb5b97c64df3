"""Payload, measuring and calculators of the Alignment difficulty screen."""

import json
import os
import re

import gradio as gr
import numpy as np
import pytest

from explorer.alignment.growth import theorem_growth
from explorer.alignment.payload_formats import ALIGNMENT
from explorer.core.provenance import ManifestError
from explorer.studies.results import EVALUATION, SCORES, step_folder
from explorer.studies.specs import ExtractorSpec
from explorer.ui.screens.alignment.calculators import (
    fine_tuning_words,
    single_concept_words,
    theorem_curve,
    theorem_words,
)
from explorer.ui.screens.alignment.screen import (
    _measure_on_screen,
    _shown,
    alignment_payload,
    build_alignment_screen,
    check_extractor,
    measure_folder,
    name_beside,
)
from explorer.ui.shell.context import AppContext, AppSettings
from explorer.ui.shell.page_address import Shows, address_input
from tests.ui.measured_pairs.made_up_pairs import describe_set


def measured_entry(name, data_hash, convention="authors", **changes):
    difficulty = {"ad": 0.4, "feature_ad": 0.5, "structure_ad": 0.1, "n": 1200, "convention": convention}
    difficulty["feature_range"] = [0.1, 0.6]
    facts = {"poisoned_concept_count": 0, "poison_recorded": True, "extractor": "tiny"}
    return {"name": name, "data_hash": data_hash, "alignment_difficulty": difficulty, **facts, **changes}


@pytest.fixture
def context(tmp_path, make_study):
    entry = {**dict.fromkeys(ALIGNMENT.entries["sets"]), **measured_entry("benign", "1" * 33)}
    results = {SCORES: {"alignment.json": json.dumps({"version": 1, "sets": [entry]})}}
    extractor = ExtractorSpec(folder=tmp_path / "models" / "extractor")
    study = make_study(tmp_path / "mine", results=results, extractor=extractor)
    return AppContext(settings=AppSettings(studies=(study.folder,)))


def measured_by(context, folder, convention="authors"):
    return measure_folder(context.study(), context.models, folder, convention)


def test_payload_carries_the_papers_table_labelled_as_the_papers(context):
    payload = alignment_payload(context.study())
    assert [entry["name"] for entry in payload["sets"]] == ["benign"]
    assert payload["paper"]["label"].startswith("The paper's numbers")
    for row in payload["paper"]["rows"]:
        assert 0.8 * row["feature_ad"] + 0.2 * row["structure_ad"] == pytest.approx(row["ad"], abs=1e-3)


def test_what_models_draw_stands_beside_their_sets_where_it_was_judged(tmp_path, make_study):
    entry = {**dict.fromkeys(ALIGNMENT.entries["sets"]), **measured_entry("benign", "1" * 33)}
    results = {SCORES: {"alignment.json": json.dumps({"version": 1, "sets": [entry]})}}
    over_nouns = {"over_concepts": {"low": 0.5, "high": 0.9}}
    models = [{"name": "benign", "accuracy": {"unpoisoned": {"mean": 0.7, "low": 0.6, "high": 0.8, **over_nouns}}},
              {"name": "of an earlier release", "accuracy": {"unpoisoned": {"mean": 0.2, "low": 0.1, "high": 0.3}}},
              {"name": "unknown", "accuracy": {"unpoisoned": None}}]  # fmt: skip
    how = {"prompt": "a photo of C", "seeds": [0, 1], "steps": 12, "guidance_scale": 4.0}
    evaluation = json.dumps({"models": models, "tau": 0.3, **how})
    judged = make_study(tmp_path / "judged", results={**results, EVALUATION: {"evaluation.json": evaluation}})
    payload, without = (
        alignment_payload(AppContext(settings=AppSettings(studies=(study.folder,))).study())
        for study in (judged, make_study(tmp_path / "not", results=results))
    )
    earlier = {"mean": 0.2, "over_concepts": None}
    assert payload["top1"] == {"benign": {"mean": 0.7, **over_nouns}, "of an earlier release": earlier}
    assert payload["drawn"] == {**how, "models": ["benign", "of an earlier release"]}
    assert without["top1"] is without["drawn"] is None


def test_pairs_of_an_arm_that_is_known_to_hold_no_poison_are_benign_without_flags(tmp_path, make_study):
    stored = describe_set("unflagged", 0, np.zeros(200, bool), recorded=False)
    sets = [{**stored, "poisoned_concept_count": count, "name": str(count)} for count in (0, None)]
    results = {SCORES: {"alignment.json": json.dumps({"version": 1, "sets": sets})}}
    study = make_study(tmp_path / "unflagged", results=results)
    shown, unknown = alignment_payload(AppContext(settings=AppSettings(studies=(study.folder,))).study())["sets"]
    assert (shown["poison_recorded"], shown["poisoned_pairs"], shown["unrecorded_pairs"]) == (True, 0, 0)
    kinds = [[*found["groups"]] for found in (shown["distributions"]["structure_distance"],
                                              *shown["distributions"]["sample_ad"])]  # fmt: skip
    assert {*map(tuple, kinds)} == {("benign",)}
    assert unknown == json.loads(json.dumps(sets[1])), "of an arm of which nobody recorded it nothing is made up"


def test_changed_artefact_is_refused(context):
    (step_folder(context.study().study, SCORES) / "alignment.json").write_text("{}")
    with pytest.raises(ManifestError, match=r"alignment\.json was changed"):
        alignment_payload(context.study())


def test_other_formats_are_refused():
    with pytest.raises(ManifestError, match="format version None: expected 1"):
        ALIGNMENT.checked({})
    with pytest.raises(ManifestError, match="describes no sets: expected at least one"):
        ALIGNMENT.checked({"version": 1, "sets": []})
    with pytest.raises(ManifestError, match="entry 0 of sets lacks moments, mean_offset, distributions"):
        ALIGNMENT.checked({"version": 1, "sets": [dict.fromkeys(ALIGNMENT.entries["sets"][:5])]})


@pytest.mark.parametrize(
    ("folder", "convention", "message"),
    [
        ("  ", "authors", "No folder is given"),
        ("nowhere", "authors", "is no pair set: expected pairs.parquet"),
        ("~nosuchuser/set", "authors", "^~nosuchuser/set is no pair set: expected pairs.parquet"),
        ("~root", "authors", "^~root is no pair set: expected pairs.parquet"),
        ("~/nowhere", "authors", "^~/nowhere is no pair set: expected pairs.parquet"),
        ("nowhere\0", "authors", "is no pair set: expected pairs.parquet"),
        ("n" * 5000, "authors", "is no pair set: expected pairs.parquet"),
        ("nowhere", "both", "convention is 'both': expected one of authors, halved"),
    ],
)
def test_wrong_folders_are_answered_in_words(context, folder, convention, message):
    with pytest.raises(ValueError, match=message):
        measured_by(context, folder, convention)


def test_a_pipe_in_a_pair_set_is_not_waited_for(context, tmp_path):
    folder = tmp_path / "piped"
    folder.mkdir()
    for name in ("images.npy", "manifest.json"):
        (folder / name).touch()
    os.mkfifo(folder / "pairs.parquet")
    with pytest.raises(ValueError, match=r"is no pair set: expected pairs\.parquet"):
        measured_by(context, str(folder))


def test_an_answer_names_a_folder_as_it_was_given(context, tmp_path, monkeypatch):
    folder = tmp_path / "really" / "here"
    folder.mkdir(parents=True)
    for name in ("manifest.json", "pairs.parquet", "images.npy"):
        (folder / name).write_text("{}")
    context.study().study.extractor.folder.mkdir(parents=True)
    (tmp_path / "home").symlink_to(tmp_path / "really")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(ValueError, match=r"^~/here/manifest\.json is of kind None: expected 'pair-set'"):
        measured_by(context, "~/here")


def test_an_extractor_that_cannot_measure_is_named(context, tmp_path, make_study):
    for name in ("pairs.parquet", "images.npy", "manifest.json"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match="extractor is missing: AD needs the universal extractor"):
        measured_by(context, str(tmp_path))
    with pytest.raises(ValueError, match="mine has no extractor: AD needs the universal extractor"):
        check_extractor(make_study(tmp_path / "mine"))
    (tmp_path / "clip.safetensors").touch()
    spec = ExtractorSpec(open_clip="ViT-B-32", weights=tmp_path / "clip.safetensors")
    with pytest.raises(ValueError, match=r"not calibrated: expected feature_range in study\.toml"):
        check_extractor(make_study(tmp_path / "mine", extractor=spec))


def test_a_message_on_the_screen_is_escaped(context):
    slug, measured, words = _measure_on_screen(context, "", "<img src=x onerror=alert(1)>", "authors", [{"name": "x"}])
    assert (slug, measured) == ("", None)
    assert "<img" not in words
    assert "&lt;img src=x" in words
    assert _shown(context, "/payload", "", slug, measured, words) == [gr.skip(), gr.skip(), words]


@pytest.mark.parametrize("error", [RuntimeError("no home"), KeyError("files"), MemoryError("no room")])
def test_whatever_fails_the_page_stops_saying_that_it_works(context, monkeypatch, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr("explorer.ui.screens.alignment.screen.measure_folder", fail)
    _, measured, words = _measure_on_screen(context, "", "mine", "authors", [])
    assert measured is None
    assert f"Not measured.</strong> <span>{type(error).__name__}: " in words


def test_sets_that_share_a_name_are_told_apart_and_the_same_pairs_keep_it():
    bundled = [measured_entry("benign", "1" * 33), measured_entry("dirty", "2" * 33)]
    assert name_beside(measured_entry("benign", "1" * 33), bundled) == "benign", "the same pairs, from another folder"
    others = [
        measured_entry("dirty", "3" * 33),
        measured_entry("dirty", "2" * 33, extractor="another"),
        measured_entry("dirty", "2" * 33, "halved"),
    ]
    names = {name_beside(other, bundled) for other in others}
    assert len(names) == 3
    assert all(re.fullmatch(r"dirty \[[0-9a-f]{8}\]", name) for name in names)
    assert name_beside(measured_entry("mine", "1" * 33), bundled) == "mine"


def test_a_measured_set_replaces_itself_measured_before(context, monkeypatch):
    entry = measured_entry("<mine>", "4" * 33)
    monkeypatch.setattr("explorer.ui.screens.alignment.screen.measure_folder", lambda *arguments: dict(entry))
    before = {**measured_entry("<mine>", "4" * 33), "old": True}
    slug, kept, words = _measure_on_screen(context, "mine", "mine", "authors", [before])
    assert kept == [entry]
    value = {"url": "/payload", "study": "mine", "measured": [entry]}
    assert _shown(context, "/payload", "mine", slug, kept, words) == [value, kept, words]
    assert _shown(context, "/payload", "another", slug, kept, words) == [gr.skip()] * 3, "the page has left the study"
    assert "&lt;mine&gt;: AD 0.4000" in words
    assert "1,200 pairs" in words


def test_eq2_shows_the_weighted_sum():
    assert "AD = 0.5165" in fine_tuning_words(0.441, 0.592, 0.5)


def test_eq3_shows_the_papers_tiny_single_concept_gain():
    words = single_concept_words(40, 100, 100, 50_000, 0.8, 1.0, 1.0)
    assert "at most +0.000641 AD" in words
    assert "0.0800%" in words


def test_theorem_shows_gain_and_share_of_poison():
    gain = theorem_growth(concepts=250, poisons=40, concept_samples=100, total_samples=50_000)
    words = theorem_words(250, 40, 100, 50_000, "distinct", 0.8, "ad")
    assert f"+{gain.ad:.4f} AD" in words
    assert "20.0% of the set is poison" in words


@pytest.mark.parametrize(
    "words",
    [
        fine_tuning_words(0.4, 0.5, 1.0),
        fine_tuning_words(None, 0.5, 0.5),
        single_concept_words(200, 100, 100, 50_000, 0.8, 1.0, 1.0),
        theorem_words(9_999, 40, 100, 50_000, "distinct", 0.8, "ad"),
        theorem_words(1, 40, 100, 50_000, "cyclic", 0.8, "ad"),
        theorem_words(10, 40, 100, 50_000, "distinct", 1.2, "ad"),
        theorem_words(251, 40, 100, 50_000, "distinct", 0.8, "ad"),
        theorem_words(0, 0, 0, 0, "distinct", 0.8, "ad"),
        single_concept_words(40, 100, 100, 50_000, 0.8, 1.0, 7.0),
        single_concept_words(0, 0, 0, 0, 0.8, 1.0, 1.0),
        fine_tuning_words(-0.1, 0.5, 0.5),
        fine_tuning_words(0.4, 2.5, 0.5),
        fine_tuning_words(float("nan"), 0.5, 0.5),
    ],
)
def test_impossible_inputs_are_answered_by_a_message(words):
    assert 'role="alert"' in words


def test_curve_agrees_with_the_theorem_at_every_point():
    value = theorem_curve(250, 40, 100, 50_000, "shared", 0.5, "ad")
    curves = value["curves"]
    assert curves["concepts"][0] == 0
    assert curves["concepts"][-1] == 500, "as many concepts of 100 pairs as 50,000 pairs hold"
    fits = {"distinct": 250, "shared": 499, "cyclic": 500}  # targets are no poisoned concepts, but for a cycle's
    for pattern, most in fits.items():
        for concepts, gain in zip(curves["concepts"], curves[pattern], strict=True):
            if concepts > most:
                assert gain is None
            elif concepts != 1:
                expected = theorem_growth(concepts=concepts, poisons=40, concept_samples=100, total_samples=50_000,
                                          targets=pattern, alpha=0.5)  # fmt: skip
                assert gain == expected.ad
    inputs = {"concepts": 250, "poisons": 40, "samples": 100, "total": 50_000, "targets": "shared", "alpha": 0.5}
    assert value["inputs"] == {**inputs, "quantity": "ad"}


def test_curve_without_a_valid_set_is_empty():
    assert theorem_curve(250, 40, None, 50_000, "shared", 0.5, "ad")["curves"] is None
    assert theorem_curve(250, 400, 100, 50_000, "shared", 0.5, "ad")["curves"] is None
    assert theorem_curve(250, 40, 100, 50_000, "shared", 1.5, "ad")["curves"] is None
    assert theorem_curve(-1, 40, 100, 50_000, "shared", 0.5, "ad")["curves"] is None


def test_screen_builds_with_an_endpoint_for_programs(context):
    with gr.Blocks() as blocks:
        shows = Shows(loaded=blocks.load, chosen=gr.Button().click)
        build_alignment_screen(context, address_input(), shows)
    names = {function.api_name for function in blocks.fns.values()}
    assert "alignment_difficulty" in names


def test_a_set_of_held_out_pairs_alone_is_measured_whole(micro_world, tmp_path):
    from explorer.pairs.pair_set import PairSet

    trained_on = PairSet.load(micro_world.run / "sets" / "dirty-002")
    table = trained_on.table.assign(split="test")
    held_out = PairSet.write(tmp_path / "held-out", table, trained_on.images, config={}, seed=0)
    context = AppContext(settings=AppSettings(checkpoints=micro_world.output))
    entry = measured_by(context, str(held_out.folder))
    assert (entry["name"], entry["pairs"], entry["split"]) == ("held-out", len(table), "all")
    assert measured_by(context, str(trained_on.folder))["split"] == "train"
