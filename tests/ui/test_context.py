import json
import shlex
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient

from explorer.core.provenance import ManifestError
from explorer.studies.results import GRAPHS, SCORES, step_folder
from explorer.studies.specs import AestheticsSpec, ClassifierSpec, ExtractorSpec, FiltersSpec
from explorer.studies.study import Arm
from explorer.ui.shell.application import make_application_server
from explorer.ui.shell.context import SHIPPED_STUDY, AppContext, AppSettings
from explorer.ui.shell.missing_steps import MissingStepError


@pytest.fixture
def opened(tmp_path, make_study, open_study):
    make_study(tmp_path / "mine", results={SCORES: {"facts.json": json.dumps({"answer": 42})}})
    return open_study(tmp_path / "mine")


def test_a_result_is_read_and_has_a_versioned_url(opened):
    assert opened.result_json(SCORES, "facts.json") == {"answer": 42}
    assert opened.result_url(SCORES, "facts.json").startswith("/study/mine/scores/facts.json?v=")
    assert opened.result_names(SCORES) == ["facts.json"]


def test_an_arms_name_is_quoted_in_the_url_of_its_files(tmp_path, make_study, open_study):
    def write(place):
        (place / "50% #1?").mkdir()
        (place / "50% #1?" / "columns.bin").write_bytes(b"c")

    make_study(tmp_path / "mine", results={GRAPHS: write})
    url = open_study(tmp_path / "mine").result_url(GRAPHS, "50% #1?/columns.bin")
    assert url.startswith("/study/mine/graphs/50%25%20%231%3F/columns.bin?v=")
    client = TestClient(make_application_server(AppSettings(studies=(tmp_path / "mine",))), base_url="http://127.0.0.1")
    assert client.get(url).content == b"c"


def test_a_changed_file_is_refused(opened):
    assert opened.result_json(SCORES, "facts.json") == {"answer": 42}
    (step_folder(opened.study, SCORES) / "facts.json").write_text('{"answer": 43}')
    with pytest.raises(ManifestError, match=r"facts\.json was changed: its SHA-256 is .* run `python -m explorer"):
        opened.result_json(SCORES, "facts.json")


def test_what_is_missing_is_named(opened):
    for name in ("other.json", "../secret.txt"):
        with pytest.raises(ManifestError, match="does not list"):
            opened.result_file(SCORES, name)
    with pytest.raises(MissingStepError, match="mine has not measured which captions and which pictures"):
        opened.result_names(GRAPHS)
    (step_folder(opened.study, SCORES) / "facts.json").unlink()
    with pytest.raises(ManifestError, match=r"facts\.json is missing although the manifest lists it"):
        opened.result_file(SCORES, "facts.json")


def test_the_shipped_study_is_shown_unless_others_or_checkpoints_are_named(tmp_path, make_study):
    def names(**settings):
        return [opened.study.name for opened in AppContext(settings=AppSettings(**settings)).studies]

    make_study(tmp_path / "mine")
    assert names() == ["IconWorld"]
    assert names(checkpoints=tmp_path / "models") == ["models"]
    assert names(studies=(tmp_path / "mine", SHIPPED_STUDY), checkpoints=tmp_path / "models") == [
        "mine", "IconWorld", "models",
    ]  # fmt: skip
    with pytest.raises(FileNotFoundError, match=r"study\.toml is missing: expected a study"):
        names(studies=(tmp_path,))


def test_studies_have_names_for_addresses_that_differ(tmp_path, make_study):
    folders = [tmp_path / place for place in ("a/SD 1.5 & LAION", "b/sd-1-5-laion", "c/写真")]
    for folder in folders:
        make_study(folder)
    context = AppContext(settings=AppSettings(studies=tuple(folders)))
    assert [opened.slug for opened in context.studies] == ["sd-1-5-laion", "sd-1-5-laion-2", "study"]
    assert context.study() is context.studies[0]
    assert context.study("study").study.folder == folders[2]
    with pytest.raises(ValueError, match="There is no study “x” here: expected one of sd-1-5-laion, "):
        context.study("x")


def test_payload_names_are_used_once(tmp_path):
    context = AppContext(settings=AppSettings(checkpoints=tmp_path))
    assert context.add_payload("x", dict) == "/payload/x.json"
    with pytest.raises(ValueError, match="payload 'x' exists"):
        context.add_payload("x", dict)


def test_without_checkpoints_the_registry_is_empty(tmp_path, open_checkpoints):
    opened = open_checkpoints(tmp_path / "none")
    assert opened.registry() == []
    with pytest.raises(ValueError, match="There is no checkpoint called 'benign'"):
        opened.checkpoint("benign")


def test_a_folder_of_checkpoints_says_what_makes_a_study_of_it(tmp_path, open_checkpoints):
    folder = tmp_path / "my models"
    opened = open_checkpoints(folder)
    with pytest.raises(MissingStepError) as raised:
        opened.result_names(SCORES)
    command = f"python -m explorer study new STUDY --checkpoint {shlex.quote(f'{folder}/*')}"
    assert opened.missing(raised.value)["command"] == command
    assert opened.stale_steps() == {}


def test_broken_checkpoints_are_left_out_of_the_choosers_and_say_why(checkpoint_root, tmp_path, make_study, open_study):
    (checkpoint_root / "dirty-002" / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"short")
    make_study(tmp_path / "mine", checkpoints=checkpoint_root)
    opened = open_study(tmp_path / "mine")
    assert opened.checkpoint_names() == ["benign", "dirty-004"]
    with pytest.raises(ValueError, match="The checkpoint dirty-002 cannot be used: "):
        opened.checkpoint("dirty-002")


def test_a_checkpoint_that_was_moved_is_broken_and_the_others_stay(checkpoint_root, tmp_path, make_study, open_study):
    make_study(tmp_path / "mine", checkpoints=checkpoint_root)
    (checkpoint_root / "dirty-002").rename(tmp_path / "elsewhere")
    opened = open_study(tmp_path / "mine")
    assert opened.checkpoint_names() == ["benign", "dirty-004"]
    assert len(opened.registry()) == 3


def test_an_answer_does_not_say_where_folders_lie(tmp_path, make_study, open_study, open_checkpoints):
    (tmp_path / "really").mkdir()
    (tmp_path / "models").symlink_to(tmp_path / "really")
    make_study(tmp_path / "mine", arms=(Arm(name="a", checkpoint=tmp_path / "models" / "a"),))
    for opened in (open_checkpoints(tmp_path / "models"), open_study(tmp_path / "mine")):
        with pytest.raises(ValueError, match="There is no checkpoint called 'x'"):
            opened.checkpoint("x")
        assert opened.in_words(ValueError(f"{tmp_path / 'really' / 'a'} is broken")) == "models/a is broken"
        missing = FileNotFoundError(2, "No such file or directory", str(tmp_path))
        assert opened.in_words(missing) == "No such file or directory"
        assert opened.in_words(KeyError("files")) == "KeyError: 'files'"


def test_no_path_that_a_study_names_reaches_the_page_but_its_own_in_a_command(tmp_path, make_study, open_study):
    def place(name):
        return tmp_path / f"in-{name}" / name

    settings = {
        "extractor": ExtractorSpec(open_clip=f"local-dir:{place('clip')}", weights=place("clip.safetensors")),
        "aesthetics": AestheticsSpec(head=place("head"), weights=place("L14")),
        "classifier": ClassifierSpec(architecture="r", weights=place("judge"), class_names=place("names.txt")),
        "filters": FiltersSpec(scores=place("own.parquet"), columns=("taste",)),
        "beside": (tmp_path / "another",), "runs": (place("run"),), "other_bases": (place("base"),),
    }  # fmt: skip
    folder = make_study(tmp_path / "mine", **settings).folder
    opened = open_study(folder)
    for name in ("clip", "clip.safetensors", "head", "L14", "judge", "names.txt", "own.parquet", "run", "base"):
        assert opened.in_words(ValueError(f"{place(name)} is not there")) == f"in-{name}/{name} is not there"
    told = opened.in_words(ValueError(f"{tmp_path / 'another'} is done: run `explorer study run {folder}`"))
    assert told == f"{tmp_path.name}/another is done: run `explorer study run {folder}`", "a command that runs"


def test_while_one_thing_is_made_others_are_answered(tmp_path, make_study, open_study):
    opened = open_study(make_study(tmp_path / "mine", concepts=("dog",)).folder)
    made, begun, finish = [], threading.Event(), threading.Event()

    def slow():
        begun.set()
        finish.wait(30)
        made.append("slow")
        return "slow"

    with ThreadPoolExecutor(3) as pool:
        first, second = (pool.submit(opened.remember, "picture", 1, slow) for _ in range(2))
        assert begun.wait(30)
        others = pool.submit(lambda: (opened.registry(), opened.remember("other", 1, lambda: "quick")))
        assert others.result(30) == ([], "quick")
        finish.set()
        assert (first.result(30), second.result(30)) == ("slow", "slow")
    assert made == ["slow"], "made once for both"
    assert opened.remember("picture", 2, lambda: "anew") == "anew"
