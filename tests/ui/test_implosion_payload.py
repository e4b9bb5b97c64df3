import json
import shutil

import pytest

from explorer.core.provenance import ManifestError, hash_file, write_json
from explorer.results.paper import paper_table
from explorer.studies.study import Arm
from explorer.ui.screens.implosion.payload import (
    QUANTITIES,
    evaluation_summary,
    film_strip,
    film_strip_animation,
    implosion_payload,
    utility_fit,
)


def interval(mean):
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}


def model(name, count, ad, utility):
    groups = {group: interval(utility) for group in ("all", "pool", "unpoisoned", "poisoned")}
    return {
        "name": name,
        "poisoned_concept_count": count,
        "alignment_difficulty": None if ad is None else {"ad": ad, "feature_ad": ad, "structure_ad": 0.1},
        **dict.fromkeys(QUANTITIES, groups),
    }


def evaluation(models):
    facts = {"prompt": "a C", "seeds": [0, 1], "steps": 2, "guidance_scale": 4.0}
    return {**facts, "tau": 0.3, "utility_definition": "u", "models": models}


def test_models_are_ordered_and_the_fit_is_exact_on_a_line():
    models = [model("c", 60, 0.6, 0.2), model("a", 0, 0.2, 0.8), model("b", 20, 0.4, 0.5), model("d", 80, 0.8, -0.1)]
    summary = evaluation_summary(evaluation(models))
    assert [entry["name"] for entry in summary["models"]] == ["a", "b", "c", "d"]
    fit = summary["fit"]
    assert fit["slope"] == pytest.approx(-1.5)
    assert fit["intercept"] == pytest.approx(1.1)
    assert fit["r"] == pytest.approx(-1)
    assert (fit["n"], fit["group"]) == (4, "unpoisoned")


def test_the_share_of_poison_is_fitted_beside_ad_where_it_is_known():
    models = [model("a", 0, 0.2, 0.8), model("b", 20, 0.4, 0.5), model("c", 60, 0.6, 0.4), model("d", 80, 0.8, 0.1)]
    for entry, poisoned in zip(models, (0, 20, 60, 80), strict=True):
        entry["alignment_difficulty"] |= {"n": 100, "poisoned_pairs": poisoned, "unrecorded_pairs": 0}
    summary = evaluation_summary(evaluation(models))
    assert [entry["poison_share"] for entry in summary["models"]] == [0, 0.2, 0.6, 0.8]
    assert summary["share_fit"]["r"] != summary["fit"]["r"]
    models[0]["alignment_difficulty"]["unrecorded_pairs"] = 3
    summary = evaluation_summary(evaluation(models))
    assert (summary["models"][0]["poison_share"], summary["share_fit"]["n"]) == (None, 3)
    for entry in models[:2]:
        entry["alignment_difficulty"] |= {"poisoned_pairs": None, "unrecorded_pairs": 100}
    summary = evaluation_summary(evaluation(models))
    assert [entry["poison_share"] for entry in summary["models"][:2]] == [0, None], "known to hold none, without flags"


def test_three_models_have_no_interval_and_a_single_one_no_fit():
    models = [model("a", 0, 0.2, 0.8), model("b", 20, 0.4, 0.5), model("c", 60, 0.6, 0.4)]
    fit = evaluation_summary(evaluation(models))["fit"]
    assert (fit["low"], fit["high"]) == (None, None)
    assert json.dumps(fit, allow_nan=False)
    assert evaluation_summary(evaluation(models[:1]))["fit"] is None
    assert evaluation_summary(evaluation([model("a", 0, None, 0.8), models[1]]))["fit"] is None


def test_a_missing_field_is_named():
    with pytest.raises(ManifestError, match=r"evaluation\.json lacks the field 'tau'"):
        evaluation_summary({"prompt": "a C", "models": [], "seeds": [], "steps": 1, "guidance_scale": 1})


def test_without_results_each_part_says_what_measures_it(tmp_path, checkpoint_root, make_study, open_study):
    study = make_study(tmp_path / "mine", checkpoints=checkpoint_root, concepts=("sofa", "lamp"))
    payload = implosion_payload(open_study(study.folder))
    for part, step in (("film", "film-strip"), ("evaluation", "evaluation")):
        assert payload[part]["missing"]["command"] == f"python -m explorer study run {study.folder} {step}"
    assert payload["film"]["missing"]["lacks"] == ""
    assert payload["film"]["missing"]["cost"].startswith("6 pictures; how long that takes here")
    assert [table["source"].split("Table ")[1][0] for table in payload["paper"]] == list("123456")
    done = [each for each in payload["beside_paper"]["comparisons"] if not each["missing"]]
    assert (done, len(payload["beside_paper"]["comparisons"])) == ([], 13)
    assert payload["poisoned_base"] is None
    assert payload["runs"] == {"told": "", "lacking": ""}


def test_a_missing_study_beside_it_leaves_the_rest_of_the_screen(tmp_path, checkpoint_root, make_study, open_study):
    study = make_study(
        tmp_path / "mine", checkpoints=checkpoint_root, concepts=("sofa",), beside=(tmp_path / "gone",)
    )  # fmt: skip
    payload = implosion_payload(open_study(study.folder))
    assert "a study that `beside` or `other_bases` names cannot be read" in payload["beside_paper"]["problem"]
    assert "missing" in payload["film"]


def test_a_study_whose_models_are_gone_says_what_it_needs_first(tmp_path, make_study, open_study):
    arms = (Arm(name="benign", checkpoint=tmp_path / "moved" / "benign"), Arm(name="pairs", pairs=tmp_path))
    opened = open_study(make_study(tmp_path / "mine", arms=arms, concepts=("dog",)).folder)
    lacks = implosion_payload(opened)["film"]["missing"]["lacks"]
    assert "each of 2 arms lacks something, benign for example: its checkpoint is not at moved/benign: write" in lacks
    with pytest.raises(ManifestError, match="mine has not measured the same concepts"):
        film_strip_animation(opened, [0], "images", "light")


def test_a_strip_without_guidance_maps_says_why(world, tmp_path, open_study):
    shutil.copytree(world[1], tmp_path / "tiny")
    opened = open_study(tmp_path / "tiny")
    assert list(film_strip(opened)["sheets"]) == ["images", "maps", "guidance"]
    assert film_strip(opened)["no_guidance"] == ""
    folder = opened.study.folder / "results" / "film-strip"
    written, manifest = folder / "film_strip.json", json.loads((folder / "manifest.json").read_text())
    description = json.loads(written.read_text())
    for why, scales in (
        ("an earlier release drew this strip; `python -m explorer study run", {}),
        ("the scale is 1; it is distilled", {"guidance_map_scale": None}),
    ):
        kept = {name: value for name, value in description.items() if name != "guidance_map_scale"} | scales
        for number, model in enumerate(kept["models"]):
            model["no_guidance"] = ["the scale is 1", "it is distilled", "the scale is 1"][number]
        write_json(written, kept)
        manifest["files"]["film_strip.json"] = hash_file(written)
        (folder / "manifest.json").write_text(json.dumps(manifest))
        film = film_strip(open_study(opened.study.folder))
        assert list(film["sheets"]) == ["images", "maps"]
        assert film["no_guidance"].startswith(why)
        with pytest.raises(ValueError, match="guidance is to be shown: expected some of images, maps"):
            film_strip_animation(open_study(opened.study.folder), [0], "guidance", "light")


def test_models_whose_poison_nobody_recorded_come_last_and_are_not_called_benign():
    models = [model("a", None, 0.3, 0.4), model("b", 20, 0.4, 0.5)]
    rows = evaluation_summary(evaluation(models))["models"]
    assert [(row["name"], row["poisoned"], row["poison_recorded"]) for row in rows] == [
        ("b", True, True), ("a", None, False),
    ]  # fmt: skip


def test_a_classifier_is_told_of_each_models_own_clean_and_poisoned_concepts():
    judged = model("b", 1, 0.5, 0.4) | {
        "classifier_per_concept": {"cat": 0.9, "dog": 0.7, "ship": 0.2, "thing": None},
        "poisoned_concepts": ["ship"], "poisoned_concepts_known": True,
        "broken_per_concept": {"cat": 0.0, "dog": 0.1, "ship": 0.9, "thing": 0.2},
    }  # fmt: skip
    unbroken = judged | {"name": "d", "broken_per_concept": None}
    unknown = judged | {"name": "c", "poisoned_concepts_known": False}
    rows = {row["name"]: row["classifier"] for row in evaluation_summary(
        evaluation([model("a", 0, 0.3, 0.4), judged, unknown, unbroken]))["models"]}  # fmt: skip
    assert (rows["a"], rows["c"]) == (None, None)
    assert rows["b"]["clean"]["mean"] == pytest.approx(0.8)
    assert rows["b"]["clean"]["low"] < 0.8 < rows["b"]["clean"]["high"]
    assert rows["b"]["poisoned"] == {"mean": pytest.approx(0.2), "low": None, "high": None, "concepts": 1}
    assert (rows["b"]["broken"]["mean"], rows["d"]["broken"]) == (pytest.approx(0.1), None)


def test_the_papers_table_agrees_with_its_own_definition_of_ad():
    table = paper_table(1)
    assert "not this study's" in table["label"]
    assert "https://doi.org/10.1145/3658644.3690205" in table["source"]
    for row in table["rows"]:
        assert row["ad"] == pytest.approx(0.8 * row["feature_ad"] + 0.2 * row["structure_ad"], abs=0.002)
    dirty = [row["utility"] for row in table["rows"] if row["poison"] in ("benign", "dirty-label")]
    assert dirty == [0.884, 0.576, 0.416, 0.356]
    assert utility_fit([]) is None
