"""Progress on stderr: a bar on a terminal, messages alone elsewhere."""

import os
import pty
import re
import subprocess
import sys

import pytest

from explorer.cli.progress_bar import ProgressBar
from explorer.core.progress import Progress, note
from explorer.core.provenance import ROOT

WORK = """
import time
from explorer.cli.progress_bar import ProgressBar
from explorer.core.progress import Tally, note

bar = ProgressBar(delay=0)
tally = Tally(bar, "drawing", 20, "picture")
for done in range(4):
    time.sleep(0.15)
    tally.add(5)
    if done == 1:
        bar(note("half of it"))
bar.close()
"""


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}


def test_a_terminal_shows_rate_and_time_left_and_keeps_messages():
    master, slave = pty.openpty()
    worker = subprocess.Popen([sys.executable, "-c", WORK], stderr=slave, env=environment())
    os.close(slave)
    shown = b""
    while worker.poll() is None or not shown.endswith(b"\n"):
        try:
            shown += os.read(master, 4096)
        except OSError:  # the terminal's other end is closed
            break
    os.close(master)
    assert worker.wait() == 0
    text = shown.decode()
    assert "drawing: " in text
    assert re.search(r"10/20 \[00:0\d<00:0\d, +\d+\.\d+picture/s\]", text)
    assert "half of it" in text
    assert "20/20" in text


def test_a_pipe_gets_messages_alone():
    ended = subprocess.run([sys.executable, "-c", WORK], stderr=subprocess.PIPE, env=environment(), check=True)
    assert ended.stderr.decode() == "half of it\n"


@pytest.mark.parametrize(("rank", "told"), [("0", "hello\n"), ("1", "")])
def test_of_several_processes_the_main_one_tells(rank, told, monkeypatch, capsys):
    monkeypatch.setenv("RANK", rank)
    bar = ProgressBar()
    bar(note("hello"))
    bar(Progress(task="steps", done=1, total=2, figures={"loss": 0.5}))
    bar(Progress(task="other", done=2, total=2))
    bar.close()
    assert capsys.readouterr().err == told
