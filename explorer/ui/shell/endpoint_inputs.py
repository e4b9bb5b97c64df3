"""What the app's functions take from the network: plain values of a stated kind, checked before Gradio sees them.

Gradio takes any JSON for any input, and copies and serves the file that a ``FileData`` in it names. Nothing here takes
files, so a call is read by this module, refused in words if it holds anything but the plain values that its function's
inputs describe, and written anew from those values: no other field of the body reaches Gradio.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import gradio as gr

MAX_BODY_BYTES = 64 * 1024
MAX_TEXT = 10_000
MAX_ENTRIES = 64
LARGEST_NUMBER = 2**53
"""Whole numbers up to here are the same in JSON, JavaScript and Python."""
SESSION = re.compile(r"[A-Za-z0-9_-]{1,64}")


class RefusedCall(ValueError):
    """A call that is not passed on; ``status`` is the HTTP status to refuse it with."""

    def __init__(self, words: str, status: int = 422):
        super().__init__(words)
        self.status = status


@dataclass(frozen=True, kw_only=True)
class Input:
    """One input of a function."""

    name: str
    """Of the parameter, or the label on the page."""
    kind: str
    """A key of ``KINDS``."""
    empty: bool
    """Whether it may be null, as an emptied field of the page is."""
    default: tuple[Any, ...] = ()
    """What stands for it where a program leaves it out; empty if it must be given."""
    low: float = -LARGEST_NUMBER
    """Least number."""
    high: float = LARGEST_NUMBER
    """Greatest number."""
    choices: tuple[Any, ...] = ()
    """What alone may be chosen; empty if any value may."""

    def read(self, value: Any) -> Any:
        """The value, of one of Python's own types.

        Raises:
            RefusedCall: if it is of another kind. What came is not repeated.
        """
        if value is None and self.empty:
            return None
        words, read = KINDS[self.kind]
        try:
            value = read(value)
        except (TypeError, ValueError, OverflowError):
            raise RefusedCall(f"{self.name} is of the wrong kind: expected {words}.") from None
        if self.choices and value not in self.choices:
            raise RefusedCall(
                f"{self.name} is none of the choices: expected one of {', '.join(map(str, self.choices))}."
            )
        if isinstance(value, int | float) and not self.low <= value <= self.high:
            raise RefusedCall(f"{self.name} is out of range: expected a number from {self.low:g} to {self.high:g}.")
        return value


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A function that can be called from the network."""

    index: int
    """Gradio's number of it."""
    name: str
    """Its name for programs."""
    public: bool
    """Whether programs may call it by its name; the page calls it by its number."""
    inputs: tuple[Input, ...]
    """In order."""

    def read(self, given: Any) -> list[Any]:
        """The inputs' values from a list in their order, or from a mapping of their names.

        Raises:
            RefusedCall: if there are too many or too few, or one is of the wrong kind.
        """
        if isinstance(given, Mapping):
            unknown = len(given.keys() - {wanted.name for wanted in self.inputs})
            given = [given.get(wanted.name, MISSING) for wanted in self.inputs]
        elif isinstance(given, list):
            unknown = len(given) - len(self.inputs)
            given = [*given, *[MISSING] * -unknown]
        else:
            raise RefusedCall("data is of the wrong kind: expected a list of the inputs' values.")
        names = ", ".join(wanted.name for wanted in self.inputs) or "no input"
        if unknown > 0:
            raise RefusedCall(f"More inputs were given than there are: expected {names}.")
        values = []
        for wanted, value in zip(self.inputs, given, strict=True):
            if value is MISSING and not wanted.default:
                raise RefusedCall(f"{wanted.name} is missing: expected {names}.")
            values.append(wanted.default[0] if value is MISSING else wanted.read(value))
        return values


MISSING: Any = object()


def endpoints_of(blocks: gr.Blocks) -> dict[int, Endpoint]:
    """Every Python function of the Blocks by Gradio's number, as its components describe their values.

    Raises:
        ValueError: if an input is not of a plain kind, which this app takes no other than.
    """
    described = blocks.get_api_info()["named_endpoints"]
    found = {}
    for index, function in blocks.fns.items():
        if function.fn is None:
            continue
        public = function.api_visibility == "public"
        parameters = iter(described[f"/{function.api_name}"]["parameters"] if public else ())
        inputs = []
        for component in function.inputs:
            told = {} if component.skip_api or not public else next(parameters)
            name = str(told.get("parameter_name") or component.label or f"input {len(inputs) + 1}")
            default = (told["parameter_default"],) if told.get("parameter_has_default") else ()
            kind = _kind(component)
            if kind == "integer" and not public:
                kind = "number"  # what a person types need not be whole, and is told so where it is used
            # What Gradio would refuse with a traceback in the log; elsewhere the function itself has words for it.
            limits = _limits(component) if function.preprocess else {}
            empty = not public and not (function.preprocess and component.get_block_name() == "slider")  # never empty
            inputs.append(Input(name=name, kind=kind, empty=empty, default=default, **limits))
        found[index] = Endpoint(index=index, name=str(function.api_name), public=public, inputs=tuple(inputs))
        if function.collects_event_data:
            raise ValueError(f"{function.api_name} reads an event's data: expected plain inputs only")
    return found


def read_call(endpoints: Mapping[int, Endpoint], way: str, name: str | None, body: Any) -> dict[str, Any]:
    """The body of a call, made anew from its checked parts.

    Args:
        way: ``run``, ``api``, ``call``, ``call/v2`` or ``queue/join``.
        name: in the call's path; None where it has none.
        body: the parsed JSON.

    Raises:
        RefusedCall: if there is no such endpoint, or a part is of another kind than expected.
    """
    if not isinstance(body, dict):
        raise RefusedCall("The body is of the wrong kind: expected a JSON object.")
    by_name = way in ("call", "call/v2")
    index = None if by_name else _optional(body, "fn_index", _whole)
    if index is None:
        endpoint = next((known for known in endpoints.values() if known.public and known.name == name), None)
    else:
        endpoint = endpoints.get(index)
    if endpoint is None:
        raise RefusedCall("There is no such endpoint.", 404)
    if way == "call/v2":
        return dict(zip((wanted.name for wanted in endpoint.inputs), endpoint.read(body), strict=True))
    call = {"data": endpoint.read(body.get("data", []))}
    if by_name:  # a session of the caller's choosing would hide the call from whoever watches whether it is listened to
        return call
    session = _optional(body, "session_hash", _session)
    trigger = _optional(body, "trigger_id", _whole)
    return {**call, "fn_index": endpoint.index, "session_hash": session, "trigger_id": trigger}


def read_fields(body: Any, fields: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    """These fields of a JSON object, all of which must be there.

    Raises:
        RefusedCall: naming the first that is missing or of the wrong kind.
    """
    if not isinstance(body, dict):
        raise RefusedCall("The body is of the wrong kind: expected a JSON object.")
    values = {name: _optional(body, name, read) for name, read in fields.items()}
    missing = [name for name, value in values.items() if value is None]
    if missing:
        raise RefusedCall(f"{missing[0]} is missing: expected {', '.join(fields)}.")
    return values


def parse_json(body: bytes) -> Any:
    """Raises RefusedCall unless ``body`` is JSON in UTF-8."""
    try:
        return json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise RefusedCall("The body cannot be read: expected JSON in UTF-8.", 400) from None


def _optional(body: dict[str, Any], name: str, read: Callable[[Any], Any]) -> Any:
    if body.get(name) is None:
        return None
    try:
        return read(body[name])
    except (TypeError, ValueError, OverflowError):
        raise RefusedCall(f"{name} is of the wrong kind.") from None


def _kind(component: Any) -> str:
    if component.stateful:
        return "nothing"
    schema = component.api_info()
    kind = schema.get("type")
    if kind == "array":
        kind = f"array of {schema.get('items', {}).get('type')}"
    if kind not in KINDS:
        raise ValueError(f"{component.label or component} takes {schema}: expected a plain value, {', '.join(KINDS)}")
    return kind


def _limits(component: Any) -> dict[str, Any]:
    limits = {"low": getattr(component, "minimum", None), "high": getattr(component, "maximum", None)}
    choices = tuple(component.api_info().get("enum", ()))
    return {"choices": choices, **{name: limit for name, limit in limits.items() if limit is not None}}


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT or "\0" in value:
        raise TypeError
    value.encode("utf-8")  # a lone surrogate, which JSON can spell, is no text
    return value


def _number(value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    if not (math.isfinite(value) and abs(value) <= LARGEST_NUMBER):
        raise ValueError
    return value


def _whole(value: Any) -> int:
    if _number(value) != int(value):
        raise ValueError
    return int(value)


def _yes_or_no(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or len(value) > MAX_ENTRIES:
        raise TypeError
    return [_text(entry) for entry in value]


def _nothing(value: Any) -> None:
    if value is not None:
        raise TypeError


def _session(value: Any) -> str:
    if not SESSION.fullmatch(_text(value)):
        raise ValueError
    return value


KINDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "string": (f"a text of at most {MAX_TEXT} characters", _text),
    "integer": ("a whole number of at most 2^53", _whole),
    "number": ("a number of at most 2^53", _number),
    "boolean": ("true or false", _yes_or_no),
    "array of string": (f"a list of at most {MAX_ENTRIES} texts", _texts),
    "nothing": ("null, since its value is kept here", _nothing),
}
"""Kinds of JSON schema that an input may have -> the kind in words, and what reads such a value."""

CANCEL = {"session_hash": _session, "fn_index": _whole, "event_id": _session}
RESET = {"event_id": _session}
