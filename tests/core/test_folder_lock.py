"""One writer a folder, whoever it is; a killed one gives the folder back."""

import json
import os
import signal
import subprocess
import sys

import pytest

from explorer.core.folder_lock import LOCK_NAME, locked
from explorer.core.provenance import ROOT

HOLDER = """
import sys, time
from pathlib import Path
from explorer.core.folder_lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "made")],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_process_that_holds_a_folder_is_named(holder, tmp_path):
    with (
        pytest.raises(ValueError, match=f"made is being written by process {holder.pid} on "),
        locked(tmp_path / "made"),
    ):
        pass
    with pytest.raises(ValueError, match=f"process {holder.pid}"), locked(tmp_path / "made"):
        pass
    assert (tmp_path / "made" / LOCK_NAME).is_file(), "a refused process takes nothing away"


def test_the_lock_of_a_killed_process_is_taken_over(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    path = tmp_path / "made" / LOCK_NAME
    assert json.loads(path.read_text())["pid"] == holder.pid
    with locked(tmp_path / "made"):
        assert json.loads(path.read_text())["pid"] == os.getpid()
        with pytest.raises(ValueError, match=f"process {os.getpid()} on"), locked(tmp_path / "made"):
            pass
    assert not path.exists()


def test_an_error_gives_the_folder_back(tmp_path):
    with pytest.raises(KeyboardInterrupt), locked(tmp_path):
        raise KeyboardInterrupt
    with locked(tmp_path):
        assert (tmp_path / LOCK_NAME).is_file()


def test_a_folder_made_for_nothing_is_not_left_behind(tmp_path):
    with locked(tmp_path / "made"):
        assert (tmp_path / "made").is_dir()
    assert not (tmp_path / "made").exists()
    (tmp_path / "there").mkdir()
    with locked(tmp_path / "there"):
        pass
    assert (tmp_path / "there").is_dir(), "somebody made it for something"
