"""One thread for all work with the models, whichever screen asks for it.

PyTorch's OpenMP runtime gives every thread that computes a team of its own, and once there are more of them than cores
it lets none wait actively any more: as long as two such threads live, every operation in either takes several times as
long (2.4 times for a U-Net's step on two cores).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

MODEL_WORK = "model-work"
"""Gradio's queue of what this thread does: one of its events works at a time."""


class ModelThread:
    """Does one piece of work after the other. A daemon: it ends with the app, whatever it is at."""

    def __init__(self) -> None:
        self.is_busy = False
        self._waiting: queue.SimpleQueue[tuple[Callable[[], Any], Future]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="models", daemon=True)
        self._started = threading.Lock()

    def submit(self, work: Callable[[], Any]) -> Future:
        """Do ``work`` after all that was submitted before; its result or exception is the future's."""
        with self._started:
            if not self._thread.is_alive():
                self._thread.start()
        future: Future = Future()
        self._waiting.put((work, future))
        return future

    def do(self, work: Callable[[], Any]) -> Any:
        """Do ``work`` in its turn and wait for what it gives or raises; at once where this is the models' thread."""
        if threading.current_thread() is self._thread:
            return work()
        return self.submit(work).result()

    def _work(self) -> None:
        while True:
            work, future = self._waiting.get()
            self.is_busy = True
            try:
                future.set_result(work())
            except BaseException as error:  # the waiting thread's to raise
                future.set_exception(error)
            finally:
                self.is_busy = False
