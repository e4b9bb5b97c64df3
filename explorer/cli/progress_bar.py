"""Progress on stderr: messages as lines and, on a terminal, one bar a task with its rate and the time left."""

from __future__ import annotations

import os
import shutil
import sys

from tqdm import tqdm
from typer.main import get_current_context

from explorer.core.progress import OnProgress, Progress

SECONDS_WITHOUT_BAR = 1.0
"""What is done sooner needs no bar."""


class ProgressBar:
    """Shows reports while it is called; of several processes that share the work, the main one alone shows any.

    Args:
        delay: seconds that a task runs before its bar appears.
    """

    def __init__(self, delay: float = SECONDS_WITHOUT_BAR) -> None:
        self._delay, self._task = delay, ""
        self._bar: tqdm | None = None

    def __call__(self, progress: Progress) -> None:
        if os.environ.get("RANK", "0") != "0":
            return
        if progress.message:
            self._tell(progress.message)
        if progress.task:
            self._show(progress)

    def close(self) -> None:
        """Leave the last bar as it stands."""
        if self._bar is not None:
            self._bar.close()
        self._bar, self._task = None, ""

    def _tell(self, message: str) -> None:
        tqdm.write(message, file=sys.stderr)  # any bar is drawn again below it

    def _show(self, progress: Progress) -> None:
        if progress.task != self._task or (self._bar is not None and progress.done < self._bar.n):
            self.close()
            size = shutil.get_terminal_size()  # tqdm itself shows nothing where a terminal calls itself 0 wide
            # disable=None: no bar where stderr is not a terminal. What was done before counts for no rate.
            self._bar = tqdm(
                total=progress.total, initial=progress.done, desc=progress.task, unit=progress.unit,
                file=sys.stderr, disable=None, delay=self._delay, ncols=size.columns, nrows=size.lines,
            )  # fmt: skip
            self._task = progress.task
        if progress.figures:
            self._bar.set_postfix({name: f"{value:.4g}" for name, value in progress.figures.items()}, refresh=False)
        self._bar.update(progress.done - self._bar.n)
        if progress.done == progress.total:
            self.close()


def show_progress() -> OnProgress:
    """A bar that closes when the running command ends, be it by an error."""
    bar = ProgressBar()
    context = get_current_context(silent=True)
    if context is not None:
        context.call_on_close(bar.close)
    return bar
