"""How soon the app's page is usable, against an empty ``gradio.Blocks``, each in fresh processes.

Usable means: the page, its configuration and (for the app) the first view's data have been answered over HTTP.
The two kinds are started in turn, so that whatever else the machine does falls on both.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from explorer.core.provenance import ROOT

EMPTY_BLOCKS = (
    "import gradio as gr\n"
    "with gr.Blocks(analytics_enabled=False) as blocks: pass\n"
    "blocks.launch(server_name='127.0.0.1', server_port={port}, ssr_mode=False, share=False, quiet=True)"
)
APP = "from explorer.cli.app import app; app(port={port}, warm_up=False)"
PATHS = {"empty": ("/", "/config"), "app": ("/", "/config", "/payload/compare.json")}
TIMEOUT_SECONDS = 180.0
POLL_SECONDS = 0.02


@dataclass(frozen=True, kw_only=True)
class StartupTimes:
    """Seconds from starting the interpreter until the page is usable, one entry a start."""

    app: tuple[float, ...]
    """Our page."""
    empty: tuple[float, ...]
    """A page with nothing on it."""

    @property
    def ratio(self) -> float:
        """Median of ours over the median of the empty page."""
        return statistics.median(self.app) / statistics.median(self.empty)

    def report(self) -> dict[str, Any]:
        """JSON-serialisable."""
        return {
            "app_seconds": statistics.median(self.app),
            "empty_seconds": statistics.median(self.empty),
            "ratio": self.ratio,
            "repeats": len(self.app),
            "app_all": [round(seconds, 3) for seconds in self.app],
            "empty_all": [round(seconds, 3) for seconds in self.empty],
        }


def measure_startup(repeats: int = 5) -> StartupTimes:
    """Start both kinds ``repeats`` times in turn, after one start of each that is not counted (file cache).

    Raises:
        ValueError: if ``repeats`` is not positive.
        RuntimeError: if a process ends, or does not answer in time, with what it printed.
    """
    if repeats < 1:
        raise ValueError(f"repeats is {repeats}: expected at least 1")
    times: dict[str, list[float]] = {"empty": [], "app": []}
    for repeat in range(repeats + 1):
        for kind, seconds in times.items():
            taken = time_start(EMPTY_BLOCKS if kind == "empty" else APP, PATHS[kind])
            if repeat:
                seconds.append(taken)
    return StartupTimes(app=tuple(times["app"]), empty=tuple(times["empty"]))


def time_start(code: str, paths: tuple[str, ...]) -> float:
    """Seconds until a fresh interpreter that runs ``code`` (with ``{port}`` filled in) has answered all ``paths``."""
    port = free_port()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "False"}
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", code.format(port=port)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        for path in paths:
            wait_for(f"http://127.0.0.1:{port}{path}", process, started + TIMEOUT_SECONDS)
        return time.perf_counter() - started
    finally:
        process.terminate()
        process.communicate(timeout=30)


def wait_for(url: str, process: subprocess.Popen, deadline: float) -> None:
    """Until ``url`` is answered.

    Raises:
        RuntimeError: if the process ends first, or the deadline of ``time.perf_counter`` passes.
    """
    while True:
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:
                answer.read()
                return
        except (urllib.error.URLError, ConnectionError) as error:
            if process.poll() is not None:
                raise RuntimeError(f"the server ended: {process.stderr.read().decode()[-2000:]}") from error
            if time.perf_counter() > deadline:
                raise RuntimeError(f"{url} did not answer within {TIMEOUT_SECONDS:g} s") from error
        time.sleep(POLL_SECONDS)


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
