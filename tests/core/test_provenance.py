import json

import pytest

from explorer.core.provenance import (
    ManifestError,
    check_files,
    code_version,
    hash_json,
    read_manifest,
    write_json,
    write_manifest,
)


def write(folder, **changes):
    (folder / "data.bin").write_bytes(b"1234")
    facts = {"kind": "thing", "config": {"a": 1}, "seed": 7, "files": ["data.bin"], **changes}
    return write_manifest(folder, **facts)


def test_a_manifest_holds_what_is_needed_to_make_it_again(tmp_path):
    written = write(tmp_path, metrics={"accuracy": 0.5})
    read = read_manifest(tmp_path, kind="thing")
    assert read == written
    assert read["config"] == {"a": 1}
    assert read["seed"] == 7
    assert read["code_version"] == code_version()
    assert read["metrics"] == {"accuracy": 0.5}
    check_files(tmp_path, read)


def test_a_changed_file_is_named(tmp_path):
    manifest = write(tmp_path)
    (tmp_path / "data.bin").write_bytes(b"1235")
    with pytest.raises(ManifestError, match=r"data\.bin has SHA-256"):
        check_files(tmp_path, manifest)


def test_a_missing_file_is_named(tmp_path):
    manifest = write(tmp_path)
    (tmp_path / "data.bin").unlink()
    with pytest.raises(ManifestError, match=r"data\.bin is missing: the manifest lists it"):
        check_files(tmp_path, manifest)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["data.bin"], "holds a list of files: expected an object of SHA-256 by name"),
        (None, "holds a NoneType of files"),
        ({"data.bin": 7}, r"gives 7 as SHA-256 of .*data\.bin: expected 64 hex digits"),
        ({"data.bin": None}, "gives None as SHA-256"),
    ],
)
def test_a_record_of_files_that_is_none_says_what_is_wrong(tmp_path, files, message):
    manifest = write(tmp_path)
    with pytest.raises(ManifestError, match=message):
        check_files(tmp_path, {**manifest, "files": files})


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "is missing"), ("{", "is not readable JSON"), ("[1]", "holds a list"), ('{"kind": "x"}', "of kind 'x'")],
)
def test_an_unusable_manifest_says_what_is_wrong(tmp_path, content, message):
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ManifestError, match=message):
        read_manifest(tmp_path, kind="thing")


def test_hashes_do_not_depend_on_the_order_of_keys():
    assert hash_json({"a": 1, "b": [2]}) == hash_json({"b": [2], "a": 1})
    assert hash_json({"a": 1}) != hash_json({"a": 2})


def test_json_is_replaced_whole(tmp_path):
    path = tmp_path / "state.json"
    write_json(path, {"step": 1})
    write_json(path, {"step": 2})
    assert json.loads(path.read_text()) == {"step": 2}
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]
