"""Hostile input, as one table: whatever is fed to a command, it ends soon, with a sentence and no traceback.

A row is ``name: (make, says)``. ``make(folder)`` writes the input below an empty folder and returns the command line;
``says`` is a regular expression that what the command prints must match. To extend the table, add a row to one of the
``*_rows.py`` files beside this one, or another file of such a name: they are collected by themselves.
"""

import importlib.util
import re
import signal
import sys
from pathlib import Path

import pytest

from explorer.cli.application import main

LIMIT_SECONDS = 30


def rows_of(file):
    """The table ``ROWS`` of a file of rows."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ROWS


TABLE = {
    f"{file.stem.removesuffix('_rows')}: {name}": row
    for file in sorted(Path(__file__).parent.glob("*_rows.py"))
    for name, row in rows_of(file).items()
}


@pytest.fixture
def time_limit():
    """End the test, wherever it hangs, after LIMIT_SECONDS."""

    def stop(signum, frame):
        raise TimeoutError(f"still running after {LIMIT_SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", TABLE)
def test_hostile_input_gets_a_sentence(name, tmp_path, time_limit, monkeypatch, capsys):
    make, says = TABLE[name]
    monkeypatch.setattr(sys, "argv", ["explorer", *map(str, make(tmp_path))])
    with pytest.raises(SystemExit):  # every command line ends so; any other exception would be a traceback
        main()
    printed = "".join(capsys.readouterr())
    assert re.search(says, printed), printed
