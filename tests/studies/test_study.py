"""A study's settings survive writing and reading, paths follow the folder, and nonsense is named."""

import re
import shutil
from dataclasses import replace

import pytest

from explorer.core.poison_record import NO_POISON, NOT_RECORDED, PoisonRecord
from explorer.evaluation.config import EvaluationConfig
from explorer.pairs.poison_flags import PoisonFields
from explorer.pairs.sources.base import Fields, Reading
from explorer.studies.specs import AestheticsSpec, ClassifierSpec, ExtractorSpec
from explorer.studies.study import Arm, Study


@pytest.fixture
def study(tmp_path):
    dirty = PoisonRecord(kind="dirty-label", concepts=("dog", "hat"), targets={"dog": "cat"})
    return Study(
        folder=tmp_path / "study",
        name="four arms",
        extractor=ExtractorSpec(open_clip="ViT-B-32", weights=tmp_path / "clip.safetensors", feature_range=(0.2, 0.45)),
        arms=(
            Arm(name="benign", checkpoint=tmp_path / "benign", pairs=tmp_path / "sets" / "0", control=True,
                poison=NO_POISON),
            Arm(name="dirty", checkpoint=tmp_path / "dirty", poison=dirty),
            Arm(name="pairs only", pairs=tmp_path / "sets" / "1"),
            Arm(name="far", pairs="s3://bucket/{00000..00009}.tar", poison_fields=PoisonFields(flag="bad"),
                reading=Reading(split="train", fields=Fields(caption="TEXT"))),
        ),
        seeds=(3, 1), beside=(tmp_path / "other",), size=64, tau=0.236, unrelated_distance=0.9,
        aesthetics=AestheticsSpec(
            head=tmp_path / "head.safetensors", open_clip="ViT-L-14-quickgelu", weights=tmp_path / "l14.safetensors",
        ),
        classifier=ClassifierSpec(
            architecture="resnet18", weights=tmp_path / "resnet.safetensors", class_names=tmp_path / "names.txt",
        ),
    )  # fmt: skip


def test_what_is_written_is_read(study):
    study.write()
    assert Study.load(study.folder) == study
    assert study.control.name == "benign"
    assert study.arm("pairs only").poison is NOT_RECORDED
    written = (study.folder / "study.toml").read_text()
    assert "../benign" in written
    assert written.count("reading") == 2, "of one arm, and of its fields"


def test_paths_move_with_the_folder(study, tmp_path):
    study.write()
    (tmp_path / "elsewhere").mkdir()
    shutil.move(study.folder, tmp_path / "elsewhere" / "study")
    moved = Study.load(tmp_path / "elsewhere" / "study")
    assert moved.arm("benign").checkpoint == tmp_path / "elsewhere" / "benign"
    assert moved.beside == (tmp_path / "elsewhere" / "other",)
    text = (moved.folder / "study.toml").read_text()
    (moved.folder / "study.toml").write_text(text.replace('open_clip = "ViT-B-32"', 'open_clip = "local-dir:../clip"'))
    named = Study.load(moved.folder)
    assert named.extractor.open_clip == f"local-dir:{tmp_path / 'elsewhere' / 'clip'}"
    named.write()
    assert 'open_clip = "local-dir:../clip"' in (moved.folder / "study.toml").read_text()
    (moved.folder / "study.toml").write_text(text.replace('beside = ["../other"]', 'beside = "../other"'))
    with pytest.raises(ValueError, match=r"beside of the study is '\.\./other': expected a list"):
        Study.load(moved.folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('name = "benign"', 'name = "../x"'), r"arm is called '\.\./x'"),
        (('name = "benign"', 'name = "dirty"'), "arms dirty stand twice"),
        (('control = true', 'controll = true'), "arm 1 has the unknown setting controll"),
        (('name = "four arms"', 'name = "four arms"\nstep = 3'), "the study has the unknown setting step"),
        (('kind = "dirty-label"', 'kind = 3'), "study.toml"),
        (('name = "four arms"', 'name = '), "study.toml"),
        (("seeds = [3, 1]", "seeds = [3, 3]"), "seeds are"),
        (("seeds = [3, 1]", "seeds = [3, -1]"), "seed is -1: expected a whole number from 0"),
        (("guidance_scale = 7.5", "guidance_scale = 70"), "guidance scale is 70: expected 0 to 50"),
        (("guidance_scale = 7.5", "guidance_scale = nan"), "guidance_scale of the study is nan: expected a number"),
        (("tau = 0.236", 'tau = "high"'), "tau of the study is 'high': expected a number"),
        (("tau = 0.236", "tau = nan"), "tau of the study is nan: expected a number"),
        (("unrelated_distance = 0.9", 'unrelated_distance = "far"'), "is 'far': expected a number"),
        (("seeds = [3, 1]", "seeds = 3"), "seeds of the study is 3: expected a list of whole numbers"),
        (("size = 64", "size = 64\nshown_concept = 3"), "shown_concept of the study is 3: expected text"),
        (('name = "four arms"', "name = 4"), "name of the study is 4: expected text"),
        (('name = "four arms"', ""), "the study has no name: expected text"),
        (('name = "benign"\n', ""), "arm 1 has no name: expected text"),
        (('checkpoint = "../benign"', "checkpoint = 5"), "checkpoint of arm 1 is 5: expected a path"),
        (('checkpoint = "../benign"', 'checkpoint = ""'), "checkpoint of arm 1 is '': expected a path"),
        (('pairs = "../sets/0"', 'pairs = ["a", "b"]'), r"pairs of arm 1 is \['a', 'b'\]: expected a path or an add"),
        (("control = true", 'control = "false"'), "control of arm 1 is 'false': expected true or false"),
        (('head = "../head.safetensors"', "head = 3"), "head of aesthetics is 3: expected a path"),
        (('architecture = "resnet18"\n', ""), "classifier has no architecture: expected text"),
        (("feature_range = [0.2, 0.45]", "feature_range = [0.2]"), r"of extractor is \[0.2\]: expected two numbers"),
        (("feature_range = [0.2, 0.45]", "feature_range = [0.45, 0.2]"), "expected two cosines, the lower"),
        (("feature_range = [0.2, 0.45]", "feature_range = [2, 4]"), r"is \(2, 4\): expected two cosines"),
        (("tau = 0.236", "tau = 23.6"), "tau is 23.6: expected a cosine from -1 to 1"),
        (("unrelated_distance = 0.9", "unrelated_distance = -0.9"), "unrelated_distance is -0.9: expected a distance"),
        (("feature_range = [0.2, 0.45]", 'feature_range = ["a", "b"]'), "expected two numbers"),
        (("[extractor]", "[retrained]\nseeds = 3\n[extractor]"), "seeds of retrained is 3: expected a list of whole"),
        (("[extractor]", '[retrained]\nunpoisoned_only = "false"\n[extractor]'), "expected true or false"),
        (("size = 64", "size = 60"), "height is 60: expected a multiple of 8"),
        (('split = "train"', "split = 3"), "split of reading of arm 4 is 3: expected text"),
        (('caption = "TEXT"', 'captoin = "TEXT"'), "fields of the reading of arm 4 has the unknown setting captoin"),
        (('flag = "bad"', 'concept = "bad"'), "expected a field that says which pairs are poison"),
    ],
)  # fmt: skip
def test_nonsense_is_named(study, change, message):
    study.write()
    path = study.folder / "study.toml"
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change, 1))
    with pytest.raises(ValueError, match=message):
        Study.load(study.folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"unrelated_distance": float("nan")}, "unrelated_distance is nan: expected a distance from 0"),
        ({"tau": float("nan")}, "tau is nan: expected a cosine from -1 to 1"),
        ({"tau_quantile": 1.0}, "tau_quantile is 1.0: expected a share between 0 and 1"),
        ({"seeds": ()}, "seeds are (): expected at least one, each once"),
    ],
)
def test_what_no_evaluation_can_be_asked_no_study_asks(study, settings, message):
    for refused in (lambda: EvaluationConfig(**settings), lambda: replace(study, **settings)):
        with pytest.raises(ValueError, match=re.escape(message)):
            refused()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "x"\nextractor = ""\n[[arm]]\nname = "a"\n', "extractor is '': expected a table"),
        ('name = "x"\n[arm]\nname = "a"\n', r"\[arm\] is one table: expected \[\[arm\]\]"),
        ('name = "x"\narm = ["a"]\n', "arm 1 is 'a': expected a table"),
        ('name = "x"\n[[arm]]\nname = "a"\npoison = "none"\n', "poison of arm 1 is 'none': expected a table, as"),
        ('name = "x"\n[[arm]]\nname = "a"\nreading = 3\n', "reading of arm 1 is 3: expected a table"),
    ],
)
def test_what_should_be_a_table_is_named(tmp_path, text, message):
    (tmp_path / "study.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        Study.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "setting"),
    [
        (
            ('weights = "../clip.safetensors"', 'weights = "https://far/clip"'),
            "weights of extractor is 'https://far/clip'",
        ),
        (('open_clip = "ViT-B-32"', 'folder = "s3://far/clip"'), "folder of extractor is 's3://far/clip'"),
        (('checkpoint = "../benign"', 'checkpoint = "https://far/sd"'), "checkpoint of arm 1 is 'https://far/sd'"),
        (('head = "../head.safetensors"', 'head = "https://far/head"'), "head of aesthetics is 'https://far/head'"),
        (
            ('class_names = "../names.txt"', 'class_names = "s3://far/names"'),
            "class_names of classifier is 's3://far/n",
        ),
        (('beside = ["../other"]', 'beside = ["s3://far/study"]'), r"beside of the study is \['s3://far/study'\]"),
        (("[extractor]", '[filters]\nscores = "s3://f/x"\ncolumns = ["a"]\n[extractor]'), "scores of filters is 's3:"),
    ],
)
def test_an_address_is_refused_where_only_pairs_may_lie_far_away(study, change, setting):
    study.write()
    path = study.folder / "study.toml"
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change, 1))
    with pytest.raises(ValueError, match=rf"{setting}.*: expected a (path|list of paths) of this machine"):
        Study.load(study.folder)


def test_a_path_with_its_scheme_is_that_path(study, tmp_path):
    study.write()
    path = study.folder / "study.toml"
    text = path.read_text()
    for name in ("other", "benign"):
        text = text.replace(f'"../{name}"', f'"file://{tmp_path}/{name}"')
    path.write_text(text)
    assert Study.load(study.folder) == study


def test_a_folder_without_a_study_says_how_one_is_made(tmp_path):
    with pytest.raises(FileNotFoundError, match="study new"):
        Study.load(tmp_path)


def test_what_an_attack_was_not_given_is_absent_from_the_file(tmp_path):
    """As a clean-label attack without a least CLIP score records it; TOML has no null."""
    given = {"budget": 0.16, "least_score": None, "drawn": {"steps": 20, "size": None}}
    poison = PoisonRecord(kind="clean-label", concepts=("dog",), parameters=given)
    study = Study(folder=tmp_path, name="x", extractor=ExtractorSpec(), arms=(Arm(name="clean", poison=poison),))
    study.write()
    assert Study.load(tmp_path).arm("clean").poison.parameters == {"budget": 0.16, "drawn": {"steps": 20}}
