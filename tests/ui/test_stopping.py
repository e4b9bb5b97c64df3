"""Ctrl-C and SIGTERM end a real app, whatever is open and at work."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from explorer.core.provenance import ROOT

SECONDS = 5.0


def post(address, path, value):
    request = urllib.request.Request(
        f"http://{address[0]}:{address[1]}{path}", json.dumps(value).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


@contextlib.contextmanager
def listening(address, path):
    """An event stream that stays open; its first bytes have come."""
    with socket.create_connection(address) as stream:
        stream.sendall(f"GET {path} HTTP/1.1\r\nHost: {address[0]}\r\n\r\n".encode())
        assert b"200 OK" in stream.recv(1000)
        yield stream


def start_app(checkpoints):
    """A running app and its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = listener.getsockname()
    options = [
        "--port",
        str(address[1]),
        "--checkpoints",
        str(checkpoints),
        "--no-warm-up",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "explorer", "app", *options], cwd=ROOT, env={**os.environ, "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    for _ in range(600):
        assert process.poll() is None, process.stdout.read()
        with contextlib.suppress(OSError), socket.create_connection(address, timeout=1):
            return process, address
        time.sleep(0.1)
    raise AssertionError("the app did not answer")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_open_page_and_live_work_do_not_keep_the_app_alive(number, checkpoint_root, tmp_path):
    process, address = start_app(checkpoint_root)
    try:
        models = ["benign", "dirty-002", "dirty-004"]
        call = {"data": ["a photo of a dog", models, 7, 100, 4.0, ""]}
        event = post(address, "/gradio_api/call/compare", call)["event_id"]
        waiting = post(address, "/gradio_api/call/compare", call)["event_id"]
        with (
            listening(address, "/gradio_api/heartbeat/tab1"),
            listening(address, f"/gradio_api/call/compare/{event}"),
            listening(address, f"/gradio_api/call/compare/{waiting}"),
        ):
            time.sleep(3)  # the models are being loaded, or drawing
            began = time.monotonic()
            process.send_signal(number)
            printed, _ = process.communicate(timeout=30)
            assert time.monotonic() - began < SECONDS
    finally:
        process.kill()
    assert process.returncode == 0
    assert "Implosion Explorer stops. The comparison at work is not finished." in printed
    assert not re.search("Traceback|ERROR|Cancel", printed), printed


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="wake-ups are counted by /proc alone")
def test_an_idle_app_hardly_wakes(checkpoint_root):
    process, _ = start_app(checkpoint_root)
    try:
        time.sleep(2)  # until nothing of its start is at work
        before = wake_ups(process)
        time.sleep(2)
        assert wake_ups(process) - before < 600, "Gradio left to itself wakes 2,000 times"
    finally:
        process.kill()
        process.communicate()


def wake_ups(process):
    """How often a process's threads have slept so far."""
    told = (path.read_text() for path in Path(f"/proc/{process.pid}/task").glob("*/status"))
    return sum(int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", each, re.MULTILINE)[1]) for each in told)


def test_work_that_no_signal_reaches_is_given_up(tmp_path):
    script = (
        "import threading, time, fastapi\n"
        "from explorer.ui.shell.stopping import StoppableServer, serve\n"
        "app = fastapi.FastAPI()\n"
        "@app.get('/')\n"
        "def deaf():\n"
        "    time.sleep(60)\n"
        "serve(StoppableServer(app, '127.0.0.1', {port}, lambda: print('ending', flush=True)), lambda: True)\n"
    )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = listener.getsockname()
    process = subprocess.Popen(
        [sys.executable, "-c", script.replace("{port}", str(address[1]))], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        for _ in range(300):
            with contextlib.suppress(OSError):
                client = socket.create_connection(address, timeout=1)
                break
            time.sleep(0.1)
        with client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            time.sleep(0.5)
            began = time.monotonic()
            process.terminate()
            printed, _ = process.communicate(timeout=30)
            assert time.monotonic() - began < SECONDS
    finally:
        process.kill()
    assert (printed, process.returncode) == ("ending\n", 0)
