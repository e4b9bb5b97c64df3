import json
import os

import pytest

from explorer.core.bounded_files import (
    MAX_JSON_CONTAINERS,
    MAX_JSON_DEPTH,
    files_below,
    load_json,
    open_regular,
    parse_json,
    path_inside,
    printable,
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 10**6, f"nested more than {MAX_JSON_DEPTH} deep"),
        (b'{"a":' * 100, f"nested more than {MAX_JSON_DEPTH} deep"),
        (b"[" + b"[]," * MAX_JSON_CONTAINERS + b"1]", "more than 500,000 objects and lists"),
        (b'{"a": 1, "b": {"c": 1, "c": 1}}', "it names c twice"),
        (b'{"a": "\\ud800"}', "surrogates not allowed"),
        (b'"\xff"', "can't decode byte 0xff"),
        (b"[" + b"9" * 5000 + b"]", "Exceeds the limit"),
        (b'"' + b'\\"' * 10**6, "Unterminated string"),
        (b'"a\\', "Unterminated string"),
        (b"", "Expecting value"),
    ],
)
def test_json_beyond_the_limits_is_a_sentence(content, message):
    with pytest.raises(ValueError, match=message):
        parse_json(content)


@pytest.mark.parametrize(
    "value",
    [
        {"text": '["{[' * 1000 + '\\"', "emoji": "\N{GRINNING FACE}", "lists": [[[]]] * 1000},
        {"lambda_min_clipped": float("-inf"), "model_max_length": 10**30},  # diffusers and transformers write these
        json.loads("[" * MAX_JSON_DEPTH + "]" * MAX_JSON_DEPTH),
    ],
)
def test_json_within_the_limits_is_read_as_it_is(value):
    assert parse_json(json.dumps(value).encode()) == value


def test_only_regular_files_and_links_to_them_are_opened(tmp_path):
    (tmp_path / "file").write_bytes(b"[1]")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    assert load_json(tmp_path / "link") == [1]
    for name in ("pipe", "zero", "."):
        with pytest.raises(OSError, match="it is no regular file"):
            open_regular(tmp_path / name)
    with pytest.raises(ValueError, match="it has more than 2 bytes"):
        load_json(tmp_path / "file", limit=2)


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "/a", "a/../b", "a/./b", "a//b", "a/", "a\0b"])
def test_a_name_that_leads_out_or_is_not_plain_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="is no name of a file inside"):
        path_inside(tmp_path, name)
    assert path_inside(tmp_path, "a/b") == tmp_path / "a" / "b"


def test_what_cannot_be_printed_is_escaped_and_what_is_long_is_cut():
    assert printable("naïve 猫 " + os.fsdecode(b"\xff") + "\33[2J\n\u202e") == "naïve 猫 \\xff\\x1b[2J\\n\\u202e"
    assert printable("a" * 2000, 10) == "a" * 10 + "… (2,000 characters)"


def test_files_below_stop_at_their_depth(tmp_path):
    place = tmp_path
    for _ in range(200):
        place = place / "d"
        place.mkdir()
        (place / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "d" / "up").symlink_to("..")
    assert len(list(files_below(tmp_path))) == 3
