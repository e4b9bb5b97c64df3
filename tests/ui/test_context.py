import json
import os
import time

import pytest

from explorer.core.provenance import ManifestError, write_manifest
from explorer.ui.shell.context import AppContext, AppSettings


@pytest.fixture
def context(tmp_path):
    folder = tmp_path / "precomputed"
    folder.mkdir()
    (folder / "facts.json").write_text(json.dumps({"answer": 42}))
    write_manifest(folder, kind="precomputed", config={}, seed=0, files=["facts.json"])
    return AppContext(settings=AppSettings(checkpoints=tmp_path / "none", precomputed=folder))


def test_a_precomputed_file_is_read_and_has_a_versioned_url(context):
    assert context.precomputed_json("facts.json") == {"answer": 42}
    assert context.precomputed_url("facts.json").startswith("/precomputed/facts.json?v=")
    assert context.precomputed_names() == ["facts.json"]


def test_a_changed_file_is_refused(context):
    assert context.precomputed_json("facts.json") == {"answer": 42}
    (context.settings.precomputed / "facts.json").write_text('{"answer": 43}')
    with pytest.raises(ManifestError, match=r"facts\.json was changed: its SHA-256 is .* Run `python -m explorer pre"):
        context.precomputed_json("facts.json")


def test_missing_files_and_manifests_are_named(context):
    with pytest.raises(ManifestError, match=r"does not list other\.json"):
        context.precomputed_file("other.json")
    (context.settings.precomputed / "facts.json").unlink()
    with pytest.raises(ManifestError, match=r"facts\.json is missing although the manifest lists it"):
        context.precomputed_file("facts.json")
    (context.settings.precomputed / "manifest.json").unlink()
    with pytest.raises(ManifestError, match="there are no precomputed results"):
        context.precomputed_file("facts.json")
    assert context.precomputed_names() == []


def test_a_path_outside_the_manifest_is_not_served(context):
    with pytest.raises(ManifestError, match="does not list"):
        context.precomputed_file("../secret.txt")


def test_results_of_other_models_are_told_by_their_weights(checkpoint_root, tmp_path):
    folder = tmp_path / "precomputed"
    folder.mkdir()
    context = AppContext(settings=AppSettings(checkpoints=checkpoint_root, precomputed=folder))
    assert context.precomputed_of_other_models() == [], "there are none"

    def remember(models):
        write_manifest(folder, kind="precomputed", config={"models": models}, seed=0, files=[])
        os.utime(folder / "manifest.json", ns=(time.time_ns(), time.time_ns()))

    for name in context.checkpoint_names():
        context.check_weights(context.checkpoint(name))
    weights = {checkpoint.name: checkpoint.hash for checkpoint in context.registry()}
    remember(weights)
    assert context.precomputed_of_other_models() == []
    remember(weights | {"benign": "0" * 64, "gone": "1" * 64})
    assert context.precomputed_of_other_models() == ["benign", "gone"]
    remember(list(weights))
    assert context.precomputed_of_other_models() == list(weights), "an older version kept no hashes"


def test_payload_names_are_used_once(context):
    assert context.add_payload("x", dict) == "/payload/x.json"
    with pytest.raises(ValueError, match="payload 'x' exists"):
        context.add_payload("x", dict)


def test_without_checkpoints_the_registry_is_empty(context):
    assert context.registry() == []
    with pytest.raises(ValueError, match="There is no checkpoint called 'benign'"):
        context.checkpoint("benign")


def test_broken_checkpoints_are_left_out_of_the_choosers_and_say_why(checkpoint_root, tmp_path):
    (checkpoint_root / "dirty-002" / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"short")
    context = AppContext(settings=AppSettings(checkpoints=checkpoint_root, precomputed=tmp_path))
    assert context.checkpoint_names() == ["benign", "dirty-004"]
    with pytest.raises(ValueError, match="The checkpoint dirty-002 cannot be used: "):
        context.checkpoint("dirty-002")


def test_an_answer_does_not_say_where_folders_lie(tmp_path):
    (tmp_path / "really").mkdir()
    (tmp_path / "models").symlink_to(tmp_path / "really")
    context = AppContext(settings=AppSettings(checkpoints=tmp_path / "models", precomputed=tmp_path / "made"))
    with pytest.raises(ValueError, match="There is no checkpoint called 'x'") as raised:
        context.checkpoint("x")
    assert context.in_words(raised.value) == "There is no checkpoint called 'x' in models."
    assert context.in_words(ValueError(f"{tmp_path / 'really' / 'a'} is broken")) == "models/a is broken"
    assert (
        context.in_words(FileNotFoundError(2, "No such file or directory", str(tmp_path)))
        == "No such file or directory"
    )
    assert context.in_words(KeyError("files")) == "KeyError: 'files'"
