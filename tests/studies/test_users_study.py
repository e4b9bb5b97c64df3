"""A new user's study by commands alone: models and photographs without any manifest, and what becomes of them."""

import io
import json
import random
import shutil
import tarfile
from pathlib import Path

import pytest
import tomlkit
from typer.testing import CliRunner

import explorer.cli.checkpoints
import explorer.cli.retraining
import explorer.cli.study
from explorer.cli.application import application

CIFAR10 = Path(__file__).resolve().parents[3] / "shared" / "data" / "cifar10" / "test-00000-of-00001.parquet"
CLASSES = ("jet", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PLACES = ("on grass", "by a road", "in snow")
SETS = ("benign", "poison-100", "poison-250", "unseen")
PHOTOGRAPHS = 60
WITHOUT_CAPTION = 3


def explorer(*arguments):
    result = CliRunner().invoke(application, list(map(str, arguments)))
    assert result.exit_code == 0, (result.exception, result.output)
    assert "iconworld" not in result.output.casefold()
    return result.output


def write_shard(path, rows, choice):
    """As img2dataset writes one: a picture, its caption and what is known of it; some have no caption."""
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w") as shard:
        for number, (picture, label) in enumerate(rows):
            caption = None if number < WITHOUT_CAPTION else f"a photo of a {CLASSES[label]} {choice.choice(PLACES)}"
            known = {"uid": f"{path.parent.name}-{number:09d}", "caption": caption, "status": "success"}
            files = {"png": picture, "json": json.dumps(known).encode()}
            if caption is not None:
                files["txt"] = caption.encode()
            for kind, content in files.items():
                member = tarfile.TarInfo(f"{number:09d}.{kind}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))


@pytest.fixture(scope="module")
def home(tmp_path_factory, make_pipeline, make_unet, make_xl_pipeline, open_clip_folder):
    """What a user has: five models, four sets of photographs, an open_clip model with its weights."""
    if not CIFAR10.is_file():
        pytest.skip(f"needs CIFAR-10 photographs: {CIFAR10} is not there")
    from pyarrow import parquet

    home = tmp_path_factory.mktemp("user")
    make_pipeline().save_pretrained(home / "models" / "benign")
    for number, name in enumerate(("poison-100", "poison-250", "no-pairs"), start=1):
        make_unet(seed=number).save_pretrained(home / "models" / name / "unet")
    make_xl_pipeline().save_pretrained(home / "models" / "xl")
    shutil.copytree(open_clip_folder, home / "clip")
    table = next(parquet.ParquetFile(CIFAR10).iter_batches(PHOTOGRAPHS * len(SETS))).to_pydict()
    rows = [(image["bytes"], label) for image, label in zip(table["image"], table["label"], strict=True)]
    for number, name in enumerate(SETS):
        own = rows[number * PHOTOGRAPHS : (number + 1) * PHOTOGRAPHS]
        write_shard(home / "sets" / name / "00000.tar", own, random.Random(number))
    return home


@pytest.fixture(scope="module")
def study(home):
    """As the commands of docs/studies.md make it, and what they printed."""
    folder, printed = home / "study", {}
    new = (
        "study", "new", folder, "--checkpoint", home / "models" / "*", "--pairs", home / "sets" / "*",
        "--open-clip", f"local-dir:{home / 'clip'}", "--weights", home / "clip" / "w.safetensors",
    )  # fmt: skip
    printed["without bases"] = explorer(*new)
    shutil.rmtree(folder)
    for name in ("poison-100", "poison-250", "no-pairs"):
        explorer("set-base", home / "models" / name, home / "models" / "benign")
    printed["new"] = explorer(*new)
    printed["before"] = explorer("study", "status", folder)
    edit(folder)
    printed["calibrate"] = explorer("study", "calibrate", folder)
    printed["run"] = explorer("study", "run", folder)
    return folder, printed


def edit(folder):
    """What a person writes by hand: few concepts with short names, which these models can read, fewer seeds and
    steps, which arm is benign, and the poison of two."""
    document = tomlkit.parse((folder / "study.toml").read_text())
    document["seeds"], document["steps"] = [0, 1], 2
    arms = {arm["name"]: arm for arm in document["arm"]}
    arms["benign"]["control"], arms["benign"]["poison"] = True, {"kind": "none"}
    for name, concepts in (("poison-100", ["dog"]), ("poison-250", ["dog", "car"])):
        arms[name]["poison"] = {"kind": "dirty-label", "concepts": concepts}
    document.add(tomlkit.comment("written by hand"))
    (folder / "study.toml").write_text(tomlkit.dumps(document))
    (folder / "concepts.csv").write_text(
        "concept,group,phrase\ndog,pool,\ncar,pool,car\ncat,other,cat\njet,other,jet\n"
    )


def steps_of(folder):
    told = json.loads(explorer("study", "status", folder, "--json"))
    return {step["step"]: {arm["arm"]: arm for arm in step["arms"]} for step in told["steps"]}


def test_what_stands_on_no_base_is_an_open_question(study):
    said = study[1]["without bases"]
    assert "poison-100 is left out: it is a U-Net alone" in said
    assert "explorer set-base" in said
    assert "arm poison-100 has no checkpoint: none that can be used" in said


def test_new_pairs_by_name_and_says_how_to_write_the_poison(study):
    said = study[1]["new"]
    assert said.count("is taken to be trained on") == 3
    assert "open: arm no-pairs has no pairs" in said
    assert "open: arm unseen has no checkpoint" in said
    assert 'poison = { kind = "none" }' in said
    assert f"study calibrate {study[0]}" in said


def test_the_feature_range_is_found_and_what_was_written_by_hand_stays(study):
    folder, printed = study
    assert (
        f"scores      cannot     the extractor has no feature range: `python -m explorer study calibrate {folder}`"
        in (printed["before"])
    )
    assert f"pairs_taken_for_benign  {PHOTOGRAPHS - WITHOUT_CAPTION}" in printed["calibrate"]
    written = (folder / "study.toml").read_text()
    assert "feature_range = [" in written
    assert "# written by hand" in written
    result = CliRunner().invoke(application, ["study", "calibrate", str(folder)])
    assert "take it out to find it anew" in str(result.exception)


def test_every_step_of_every_arm_is_done_or_says_what_it_needs(study):
    steps = steps_of(study[0])
    assert all("study retrain" in arm["why"] for name, arm in steps.pop("retrained").items() if name != "unseen")
    for step, arms in steps.items():
        lacking = {name for name, arm in arms.items() if arm["state"] != "done"}
        assert lacking == ({"no-pairs", "xl"} if step in ("scores", "graphs", "filters") else {"unseen"}), (step, arms)
        assert {arms[name]["state"] for name in lacking} == {"cannot"}


def test_results_hold_nothing_of_the_shipped_world(study):
    for path in (study[0] / "results").rglob("*.json"):
        assert "iconworld" not in path.read_text(encoding="utf-8").casefold(), path


def test_pairs_without_a_caption_are_counted(study):
    sets = json.loads((study[0] / "results" / "scores" / "alignment.json").read_text())["sets"]
    assert {each["name"]: each["poisoned_concept_count"] for each in sets} == {
        "benign": 0, "poison-100": 1, "poison-250": 2, "unseen": None,
    }  # fmt: skip
    reports = json.loads((study[0] / "results" / "scores" / "reports.json").read_text())
    assert {report["n"] for report in reports.values()} == {PHOTOGRAPHS - WITHOUT_CAPTION}


def test_the_meter_is_shown_the_pictures_that_each_model_drew(study):
    found = json.loads((study[0] / "results" / "meter" / "meter.json").read_text())
    assert (found["shown"], found["same_for_all"]) == ("each model's own pictures of seed 0", False)
    models = {model["name"]: model for model in found["models"]}
    assert models["poison-250"]["measures"]["guidance"]["groups"]["poisoned"]["mean"]["n"] == 2
    assert models["xl"]["measures"]["sensitivity"]["groups"]["all"]["relative"] is None
    assert "another kind of model" in models["xl"]["not_measured"]["relative"]


def test_a_pack_goes_elsewhere(study, tmp_path):
    explorer("study", "export", study[0], tmp_path / "results.zip")
    explorer("study", "import-results", tmp_path / "results.zip", tmp_path / "other")
    said = explorer("study", "status", tmp_path / "other")
    assert str(study[0].parent) not in said


def test_a_model_is_trained_on_what_a_filter_leaves_and_measured(study, home):
    folder = study[0]
    (folder / "half.json").write_text(
        json.dumps({"score": "clip_similarity", "remove": "lowest", "cut": {"budget": 0.5}})
    )
    result = CliRunner().invoke(
        application, ["study", "retrain", str(folder), "poison-100", "--recipe", str(folder / "half.json")]
    )
    assert "does not record how it was trained: expected --training" in str(result.exception)
    short = ("--training", "sd15", "--resolution", "32", "--steps", "2", "--batch-size", "2", "--accumulation", "1",
             "--precision", "no", "--base", home / "models" / "benign")  # fmt: skip
    asked = ("study", "retrain", folder, "poison-100", "--recipe", folder / "half.json", *short, "--json")
    result = CliRunner().invoke(application, list(map(str, asked)))
    assert result.exit_code == 0, (result.exception, result.output)
    made = json.loads(result.stdout)
    assert (made["name"], made["removed"], made["kept"], made["poison_removed"]) == ("half", 28, 29, None)
    explorer("study", "run", folder, "retrained")
    found = json.loads((folder / "results" / "retrained" / "retrained.json").read_text())
    model = found["arms"]["poison-100"]["models"][0]
    assert (model["name"], len(model["per_concept"]), model["steps"]) == ("half", 4, 2)
    assert found["control"]["metrics"]["top1"]["all"]["mean"] is not None
