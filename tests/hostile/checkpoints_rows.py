"""Hostile checkpoint folders: rows of the table in test_hostile.py."""


def _nothing_there(folder):
    return ["checkpoints", folder / "absent"]


ROWS = {
    "a folder that is not there": (_nothing_there, "absent.*(not|no|expected) "),
}
