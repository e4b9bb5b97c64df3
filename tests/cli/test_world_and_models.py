"""The commands that make things: icons, pair sets, poison, features, models, evaluation, first view."""

import json
import shutil

import pytest
from typer.testing import CliRunner

import explorer.cli.alignment
import explorer.cli.evaluation
import explorer.cli.features
import explorer.cli.naming
import explorer.cli.poisoning
import explorer.cli.training
import explorer.cli.world
from explorer.cli import application as cli
from explorer.core.provenance import ROOT
from explorer.pairs.pair_set import PairSet
from explorer.scenarios.recipes import RECIPES

ICON = '<path d="M0 0h16v16H0z" fill="{}"/>'


def run(*arguments):
    result = CliRunner().invoke(cli.application, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output + repr(result.exception)
    return json.loads(result.stdout)


def test_render_icons(tmp_path):
    try:
        import cairosvg  # noqa: F401 - OSError where its C library is missing
    except (ImportError, OSError) as error:
        pytest.skip(f"rendering icons needs cairosvg and libcairo2: {error}")
    from explorer.iconworld.icons import STYLES, IconAtlas

    for package, color in (("noto", "red"), ("twemoji", "lime"), ("fluent-emoji-flat", "blue")):
        folder = tmp_path / package
        folder.mkdir()
        icons = {name: {"body": ICON.format(color)} for name in ("cat", "top-hat")}
        (folder / "icons.json").write_text(json.dumps({"icons": icons, "width": 16, "height": 16}))
        (folder / "package.json").write_text(json.dumps({"name": package, "version": "1"}))
        (folder / "info.json").write_text(json.dumps({"license": {"spdx": "MIT", "url": "u"}}))
    (tmp_path / "concepts.txt").write_text("# a list\ncat\n# --- the rest\ntop-hat=hat\n")
    output = tmp_path / "atlas"
    output.mkdir()
    report = run("render-icons", tmp_path, "--output", output, "--concepts", tmp_path / "concepts.txt")
    assert report["concepts"] == 2
    atlas = IconAtlas.load(output)
    assert atlas.concepts == ("cat", "hat")
    reddest = {style: atlas.pixels[style][0, 32, 32, :3].argmax() for style in STYLES}
    assert reddest == {"noto": 0, "twemoji": 1, "fluent": 2}
    other = run("render-icons", tmp_path, "--output", tmp_path / "other", "--concepts", tmp_path / "concepts.txt",
                "--style", "line=noto")  # fmt: skip
    assert other["styles"] == ["line"]
    assert (IconAtlas.load(tmp_path / "other").pixels["line"] == atlas.pixels["noto"]).all()
    for style, message in (("line", "expected STYLE=PACKAGE"), ("line=gone", "holds no package 'gone'")):
        asked = ["render-icons", str(tmp_path), "--output", str(tmp_path / "third"), "--style", style]
        assert message in str(CliRunner().invoke(cli.application, asked).exception)
    assert "expected another folder" in str(
        CliRunner().invoke(cli.application, ["render-icons", str(tmp_path), "--style", "line=noto"]).exception
    )


def test_iconworld_then_poison(tmp_path):
    made = run("iconworld", tmp_path / "benign", "--pairs", 60, "--concepts", 12, "--seed", 5)
    assert made["pairs"] == 60
    poisoned = run("poison", tmp_path / "benign", tmp_path / "bad", "--concepts", 3, "--pairs-per-concept", 4)
    assert poisoned["poisoned_pairs"] == 12
    assert len(poisoned["targets"]) == 3
    assert len(PairSet.load(tmp_path / "bad")) == 60
    clean = run("benign-remainder", tmp_path / "bad", tmp_path / "clean")
    assert (clean["poisoned_pairs"], clean["benign_pairs"]) == (0, poisoned["benign_pairs"])
    fewer = run("fewer-benign", tmp_path / "bad", tmp_path / "fewer", "--pairs", 6, "--seed", 2)
    assert (fewer["poisoned_pairs"], fewer["benign_pairs"], fewer["targets"]) == (12, 6, poisoned["targets"])
    named = ("--target", "cat=car", "--target", "car=cat", "--pairs-per-concept", 2)
    assert run("poison", tmp_path / "benign", tmp_path / "named", *named)["targets"] == {"cat": "car", "car": "cat"}
    for options, message in (
        (("--target", "cat"), "--target is 'cat': expected P=T, two concepts"),
        (("--target", "cat=car", "--target", "cat=dog"), "--target names 'cat' 2 times: expected one target of each"),
        (("--target", "cat=car", "--concepts", "3"), "expected either C_P, a number of concepts to draw, or targets"),
        ((), "expected either C_P"),
    ):
        arguments = ["poison", str(tmp_path / "benign"), str(tmp_path / "never"), "--pairs-per-concept", "2", *options]
        assert message in str(CliRunner().invoke(cli.application, arguments).exception)


def test_classes_of_which_nothing_true_is_left_and_captions_that_fit_in_part(tmp_path):
    run("iconworld", tmp_path / "benign", "--pairs", 90, "--concepts", 6, "--as-classes")
    benign = PairSet.load(tmp_path / "benign")
    assert (benign.table["concepts"].str.len() == 1).all()
    assert benign.table["concepts"].str[0].value_counts().min() >= 6, "as often as others"
    made = run("relabel", tmp_path / "benign", tmp_path / "made", "--concepts", 3)
    assert (made["pairs"], len(made["targets"])) == (90, 3)
    run("iconworld", tmp_path / "loose", "--pairs", 90, "--concepts", 6, "--loose", 0.5)
    assert PairSet.load(tmp_path / "loose").manifest["config"]["world"]["loose"] == 0.5
    for other in (("--like", "cpu"), ("--loose", "0.5")):
        asked = ["iconworld", str(tmp_path / "no"), "--as-classes", *other]
        assert "expected one of them" in str(CliRunner().invoke(cli.application, asked).exception)


def test_an_impossible_poison_is_one_line_and_status_two(tmp_path, monkeypatch, capsys):
    run("iconworld", tmp_path / "benign", "--pairs", 10, "--concepts", 12)
    arguments = ["explorer", "poison", str(tmp_path / "benign"), str(tmp_path / "bad"), "--concepts", "99"]
    monkeypatch.setattr("sys.argv", [*arguments, "--pairs-per-concept", "1"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: C_P is 99: expected 0 to 6, the size of the frequent pool\n"


def test_features_and_ad(micro_world):
    pairs = micro_world.run / "sets" / "dirty-002"
    report = run("features", pairs, "--extractor", micro_world.output / "extractor")
    assert report["width"] == 128
    assert report["pairs"] == len(PairSet.load(pairs))
    measured = run("ad", pairs, "--extractor", micro_world.output / "extractor", "--alpha", 0.5)
    assert measured["ad"] == pytest.approx((measured["feature_ad"] + measured["structure_ad"]) / 2)
    assert measured["convention"] == "authors"
    assert measured["ad_standard_error"] > 0


def test_any_open_clip_model_is_calibrated_and_measures_a_pair_set(tmp_path):
    import numpy as np
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    state = open_clip.create_model("ViT-S-32-alt").state_dict()
    save_file({name: value.clone() for name, value in state.items()}, tmp_path / "w.safetensors")
    run("iconworld", tmp_path / "benign", "--pairs", 30, "--concepts", 12)
    run("poison", tmp_path / "benign", tmp_path / "bad", "--concepts", 3, "--pairs-per-concept", 4)
    model = ("--open-clip", "ViT-S-32-alt", "--weights", tmp_path / "w.safetensors")
    found = run("calibrate", tmp_path / "bad", *model)
    assert (found["benign_pairs"], found["extractor"]) == (18, "ViT-S-32-alt")
    features = tmp_path / "bad" / "features" / "ViT-S-32-alt"
    image, text = (np.load(features / name).astype(float) for name in ("image.npy", "text.npy"))
    cosines = (image * text).sum(1)[~PairSet.load(tmp_path / "bad").table["is_poison"].to_numpy()]
    assert found["feature_range"] == pytest.approx(np.quantile(cosines, [0.01, 0.99]).tolist(), abs=2e-3)
    measured = run("ad", tmp_path / "bad", *model, "--feature-range", *found["feature_range"])
    assert measured["feature_range"] == pytest.approx(found["feature_range"])
    assert measured["n"] == 30
    assert run("features", tmp_path / "bad", *model)["width"] == 256
    refused = CliRunner().invoke(cli.application, ["ad", str(tmp_path / "bad"), *map(str, model)])
    assert "`explorer calibrate` finds it" in str(refused.exception)


def test_train_resumes_a_finished_recipe(micro_world, micro_recipe, monkeypatch):
    monkeypatch.setitem(RECIPES, "micro", micro_recipe)
    report = run("train", "micro", "--run", micro_world.run, "--output", micro_world.output)
    assert report["stage"] == "everything"


def test_train_refuses_an_impossible_rotation_before_it_trains(tmp_path):
    arguments = ["train", "cpu", "--run", str(tmp_path / "run"), "--rank-rotation", "120"]
    result = CliRunner().invoke(cli.application, arguments)
    assert "rank_rotation is 120: expected 0 to 119" in str(result.exception)
    assert not (tmp_path / "run").exists()


def test_train_names_an_unknown_stage(micro_world, tmp_path):
    result = CliRunner().invoke(cli.application, ["train", "cpu", "--run", str(tmp_path), "--stage", "nothing"])
    assert isinstance(result.exception, ValueError)
    assert "stage 'nothing' is unknown" in str(result.exception)


def test_naming_study_then_count(micro_world, tmp_path):
    made = run("naming-study", tmp_path / "study", "--checkpoints", micro_world.output, "--steps", 1)
    assert made["models"] == {"benign": 0, "dirty-004": 4}
    form = json.loads((tmp_path / "study" / "form.json").read_text())
    (tmp_path / "reader.json").write_text(json.dumps(dict.fromkeys(form, "none")))
    counted = run("naming-count", tmp_path / "study", tmp_path / "reader.json")
    assert counted["readers"][str(tmp_path / "reader.json")]["benign"]["all"] == pytest.approx(
        {"named": 0, "shown": len(form) / 2, "none": len(form) / 2, "share": 0, "low": 0, "high": 0.324}, abs=0.001
    )
    arguments = ["naming-count", str(tmp_path / "study"), str(tmp_path / "reader.json")]
    printed = CliRunner().invoke(cli.application, arguments).stdout
    assert "reader.json  dirty-004" in printed
    assert "not targeted 0/" in printed
    assert f"none {len(form) // 2}, another noun 0" in printed
    assert "never poisoned" not in printed


def test_training_runs_prints_every_run_beside_its_interval():
    places = ("studies/iconworld/results/evaluation", "experiments/exchanged-nouns")
    evaluations = [str(ROOT / "assets" / place / "evaluation.json") for place in places]
    most = run("training-runs", *evaluations)["models"][-1]
    assert most["poisoned_concept_count"] == 60
    assert most["accuracy_of_control"]["low"] < min(most["accuracy_of_control"]["values"])
    printed = CliRunner().invoke(cli.application, ["training-runs", *evaluations]).stdout
    assert "C_P 60\n" in printed
    assert "In brackets: 95 % t-intervals over the 2 training runs.\n" in printed
    assert "  accuracy, not targeted " in printed
    assert "unpoisoned" not in printed
    assert f"runs {' '.join(f'{value:.4f}' for value in most['ad']['values'])}\n" in printed


def test_evaluate_leaves_out_what_nobody_recorded(micro_world, tmp_path):
    models = shutil.copytree(micro_world.output, tmp_path / "models")
    shutil.copytree(models / "benign", models / "a-mine", ignore=shutil.ignore_patterns("manifest.json"))
    where = ("--checkpoints", models, "--sets", micro_world.run / "sets")
    report = run("evaluate", *where, "--output", tmp_path, "--seeds", 2, "--steps", 1)
    assert [model["name"] for model in report["models"]] == ["benign", "dirty-002", "dirty-004"]
    assert "  not targeted " in explorer.cli.evaluation.evaluation_line(report["models"][0])
    of_one_seed = {"mean": 0.5, "low": None, "high": None, "over_concepts": {"low": 0.25, "high": 0.75}}
    line = explorer.cli.evaluation.evaluation_line(report["models"][0] | {"accuracy": {"all": of_one_seed}})
    assert line.endswith("all 0.500 [0.250, 0.750]")
    beyond = of_one_seed | {"over_concepts": {"low": -5.9, "high": 6.9}}
    line = explorer.cli.evaluation.evaluation_line(report["models"][0] | {"accuracy": {"all": beyond}})
    assert line.endswith("all 0.500 [0.000, 1.000]"), "no share lies beyond"
    asked = ["evaluate", *where, "--output", tmp_path, "--seeds", 2, "--steps", 1]
    printed = CliRunner().invoke(cli.application, list(map(str, asked)))
    assert printed.exit_code == 0, repr(printed.exception)
    assert printed.stdout.endswith("--json has those over the noises, too.\n")
    assert printed.stdout.count("C_P") == 3
