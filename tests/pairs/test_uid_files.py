"""Lists of pairs as files, and read again."""

import json

import numpy as np
import pytest

from explorer.pairs.uid_files import pairs_as_bytes, read_uids

UIDS = ["0123456789abcdef0123456789abcdef", "f" * 32]


@pytest.mark.parametrize("form", ["parquet", "json", "npy"])
def test_a_list_is_read_as_it_was_written(tmp_path, form):
    path = tmp_path / f"kept.{form}"
    path.write_bytes(pairs_as_bytes({"uid": UIDS, "score": [0.5, None]}, form, {"which": "kept"}))
    assert sorted(read_uids(path)) == UIDS


def test_a_spreadsheet_is_given_no_formulas():
    columns = {"uid": ["a", "b"], "caption": ['=HYPERLINK("x")', "plain, text"], "score": [-1.5, float("nan")]}
    text = pairs_as_bytes(columns, "csv", {}).decode("utf-8-sig")
    assert text == 'uid,caption,score\r\na,"\'=HYPERLINK(""x"")",-1.5\r\nb,"plain, text",\r\n'


def test_other_uids_than_datacomps_and_unknown_forms_are_refused():
    with pytest.raises(ValueError, match="uid 'a' is none of DataComp's"):
        pairs_as_bytes({"uid": ["a"]}, "npy", {})
    with pytest.raises(ValueError, match="format is 'xls'"):
        pairs_as_bytes({"uid": ["a"]}, "xls", {})


def test_what_lists_no_uids_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="is missing"):
        read_uids(tmp_path / "none.json")
    for name, content, problem in (
        ("list.txt", b"a", "is no .parquet"), ("list.json", b"{}", "no list uids"),
        ("numbers.json", json.dumps({"uids": [1]}).encode(), "lists 1"),
        ("zero.json", json.dumps({"uids": ["a", 0]}).encode(), "lists 0"),
        ("null.json", json.dumps({"uids": ["a", None]}).encode(), "lists None"),
        ("list.parquet", b"x", "cannot be read"),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=problem):
            read_uids(tmp_path / name)
    np.save(tmp_path / "list.npy", np.arange(3))
    with pytest.raises(ValueError, match="expected u8,u8"):
        read_uids(tmp_path / "list.npy")
