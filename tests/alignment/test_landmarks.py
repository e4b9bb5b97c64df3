"""Landmarks by row number and by uid: which of the two a file means, and which entries are refused."""

import numpy as np
import pytest

from explorer.alignment.landmarks import read_landmarks

MEASURED = np.array([2, 3, 5, 8])
UIDS = [["a", "b", "c"], [], ["4", "e", "f", "000008", "h", "i"]]
"""Uids of nine rows."""


@pytest.fixture
def listed(tmp_path):
    def write(text):
        (tmp_path / "trusted.txt").write_text(text, encoding="utf-8")
        return read_landmarks(tmp_path / "trusted.txt")

    return write


@pytest.mark.parametrize(
    ("text", "by_uid", "positions"),
    [
        ("row\n8\n2\n", False, [0, 3]),
        ("row\n5\n\n# why not\n3\n", False, [1, 2]),
        ("i\nc\n", True, [0, 3]),
        ("uid\n4\n", True, [1]),
        ("c\n4\n", True, [0, 1]),
        ("\ufeffrow\n8\n2\n", False, [0, 3]),
        ("\ufeffrow\n8\n", False, [3]),
    ],
)
def test_rows_and_uids(listed, text, by_uid, positions):
    found = listed(text)
    assert found.by_uid == by_uid
    assert found.positions(MEASURED, UIDS).tolist() == positions


def test_a_uid_of_several_rows_is_no_landmark(listed):
    with pytest.raises(ValueError, match="names 'a': uids of several rows; expected a uid of a measured pair"):
        listed("c\na\n").positions(range(4), [["a", "b"], ["c", "a"]])
    assert listed("c\nb\n").positions(range(4), [["a", "b"], ["c", "a"]]).tolist() == [1, 2]


def test_positions_among_all_rows_are_row_numbers(listed):
    assert listed("row\n8\n0\n").positions(range(9), iter("?")).tolist() == [0, 8], "no uid is read for row numbers"
    assert listed("8\n0\n").positions(range(9), [["a/1", "b", "008"]]).tolist() == [0, 8], "no uid is a number"
    assert listed("i\na\n").positions(range(9), UIDS).tolist() == [0, 8]
    with pytest.raises(ValueError, match="names '9': not among the measured pairs"):
        listed("row\n9\n").positions(range(9), UIDS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# none\n", "names no landmarks: expected a row number or a uid on each line"),
        ("uid\n", "names no landmarks"),
        ("1\n2\n1\n", "names '1' twice"),
        ("row\nb\n", "names row 'b': expected a number from 0 on, or that they are uids"),
        ("row\n08\n", "names row '08'"),
    ],
)
def test_files_that_name_nothing_usable_are_refused(listed, text, message):
    with pytest.raises(ValueError, match=message):
        listed(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("row\n2\n4\n", "names '4': not among the measured pairs; expected a row number of a measured pair"),
        ("row\n9\n", "names '9': not among the measured pairs"),
        ("b\n", "names 'b': not among the measured pairs; expected a uid of a measured pair"),
        ("v\nw\nx\ny\nz\nc\n", "names 'v', 'w', 'x' and 2 more: unknown uids"),
    ],
)
def test_unknown_landmarks_are_named(listed, text, message):
    with pytest.raises(ValueError, match=message):
        listed(text).positions(MEASURED, UIDS)


def test_numbers_that_could_be_rows_or_uids_are_refused_until_somebody_says_which(tmp_path):
    (tmp_path / "trusted.txt").write_text("0\n2\n")
    uids = [["3", "2"], ["1", "0"]]
    with pytest.raises(ValueError, match=r"could be a row or a uid; say which with --landmark-rows or --landmark-uids"):
        read_landmarks(tmp_path / "trusted.txt").positions(range(4), uids)
    assert read_landmarks(tmp_path / "trusted.txt", by_uid=False).positions(range(4), uids).tolist() == [0, 2]
    assert read_landmarks(tmp_path / "trusted.txt", by_uid=True).positions(range(4), uids).tolist() == [1, 3]
    assert read_landmarks(tmp_path / "trusted.txt", by_uid=True).positions(range(4), [[3, 2, 1, 0]]).tolist() == [1, 3]
    (tmp_path / "trusted.txt").write_text("uid\n0\n")
    with pytest.raises(ValueError, match="says 'uid' in its first line: expected the option for these"):
        read_landmarks(tmp_path / "trusted.txt", by_uid=False)
