"""Hostile sources of pairs: rows of the table in test_hostile.py."""


def _nothing_there(folder):
    return ["import", folder / "absent", folder / "set"]


ROWS = {
    "a folder that is not there": (_nothing_there, "absent.*(not|no) "),
}
