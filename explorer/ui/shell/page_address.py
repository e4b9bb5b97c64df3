"""Which study a page shows: its address says so, and is sent along with every call that depends on it.

So a page needs no state here: its Back button, its copies and its reload show what its address names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr
from starlette.datastructures import QueryParams

STUDY_KEY = "study"
LONGEST_QUERY = 9000


@dataclass(frozen=True, kw_only=True)
class Shows:
    """Events with which a page begins to show a study."""

    loaded: Callable[..., Any]
    """The page was opened, and shows the first study unless its address names another."""
    chosen: Callable[..., Any]
    """Another study was chosen, or the address was gone back to."""


def address_input() -> gr.Textbox:
    """An input that nobody sees, to stand first among the inputs of what depends on the study."""
    return gr.Textbox("", label="address", visible=False)


def send_address(inputs: int) -> str:
    """``js=`` of an event with so many inputs, :func:`address_input` first: it has the address of that moment."""
    return f"(...inputs) => [location.search.slice(0, {LONGEST_QUERY}), ...inputs.slice(1, {inputs})]"


def read_address(address: str | None) -> QueryParams:
    """The fields of a page's query, which may begin with ``?``; a program that sends none means the first study."""
    return QueryParams((address or "").removeprefix("?"))


def study_named(address: str | None) -> str:
    """What the page calls its study; empty for the first."""
    return read_address(address).get(STUDY_KEY, "")
