"""Messages in words a person understands, as escaped HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Collection

from explorer.attention.words import unknown_words
from explorer.checkpoints.kinds.base import WITH_COMMAND
from explorer.core.bounded_files import printable
from explorer.core.progress import Progress

LONGEST_NOTICE = 10_000
RUNNING_HERE = "The models are still working on your last click. Wait for them, or press Stop."
RUNNING_ELSEWHERE = "Another tab is generating. Yours starts as soon as it has finished."
WAITING = "Waiting for the models …"
LOST = "The app could not take your last click, because too many wait or the one before failed. Press Generate again."
TOO_MANY = "Too many comparisons wait for the models. Try again later."
ENDING = "The app is being stopped."
CLIENT_LEFT = "Stopped, since nobody waits for the answer any more."
STOPPING = "Stopping after the current step …"
STOPPED = "Stopped. The finished columns stay."
STOPPED_EARLY = "Stopped before a column was finished."


def notice(text: str, *, kind: str = "info", title: str = "") -> str:
    """A message box.

    Args:
        text: plain text; escaped here. What stands between backticks is shown as code.
        kind: ``info``, ``working``, ``done`` or ``error``.
        title: plain text in front, in bold.
    """
    if kind not in ("info", "working", "done", "error"):
        raise ValueError(f"kind is {kind!r}: expected info, working, done or error")
    role = "alert" if kind == "error" else "status"
    heading = f"<strong>{escaped(title)}</strong> " if title else ""
    words = re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped(text))
    return f'<div class="notice {kind}" role="{role}">{heading}<span>{words}</span></div>'


def escaped(text: str) -> str:
    """Text as HTML, whatever is in it: bytes that are not UTF-8, as in names of files, could not be sent."""
    return html.escape(printable(text.replace("\n", " "), LONGEST_NOTICE))


def check_words(prompt: str, known: Collection[str] | None) -> None:
    """Refuse a prompt with words the model was never trained on, by name.

    Raises:
        ValueError: naming every unknown word.
    """
    if known is None:
        return
    unknown = unknown_words(known, prompt)
    if unknown:
        names = ", ".join(f"“{word}”" for word in unknown)
        plural = "words" if len(unknown) > 1 else "word"
        raise ValueError(
            f"These models know no {plural} {names}, but a closed list of {len(known)} words: try one of the concepts "
            "below the prompt (“Choose models” unfolds them)."
        )


def progress(report: Progress) -> str:
    """Where a live generation is: which model, which denoising step, how much of everything is done."""
    steps = f"{report.task}: {report.unit} {report.done} of {report.total}"
    return working(f"{steps} (model {report.part + 1} of {report.parts})", report.share)


def working(text: str, share: float) -> str:
    """A message box of work that goes on, with a bar.

    Args:
        text: plain text; escaped here.
        share: of the work that is done, 0 to 1.
    """
    return (
        f'<div class="notice working" role="status"><span>{escaped(text)}</span>'
        f'<progress max="1" value="{share:.3f}" aria-label="Share of the work done"></progress></div>'
    )


def in_the_app(problem: str, place: str) -> str:
    """A checkpoint's problem for a reader of the page, who names a base at ``place`` and not by a command."""
    return problem.replace(WITH_COMMAND, place)
