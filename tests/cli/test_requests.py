"""Frozen dataclasses become options; what a user gives becomes the request again."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from explorer.cli.requests import Changes, Spelling, field_docstrings, with_options


@dataclass(frozen=True, kw_only=True)
class Inner:
    """Nested."""

    column: str | None = None
    """Name of ``a`` column,
    perhaps."""
    size: int = 8
    """Pixels."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked for."""

    place: Path
    """Where."""
    loud: bool = False
    """Aloud."""
    quick: bool = True
    """Soon."""
    weight: float = 0.5
    """Between 0 and 1."""
    hidden: tuple[str, ...] = ("kept",)
    """No option."""
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight is {self.weight}: expected 0 to 1")


Asked = Annotated[
    Request,
    Spelling(
        place=typer.Argument(), weight=typer.Option(0.25, "--heavy"), hidden=None,
        inner=Spelling(column=typer.Option("--field", "--column")),
    ),
]  # fmt: skip


def run(function, *given):
    application = typer.Typer()
    application.command()(with_options(function))
    return CliRunner().invoke(application, [str(each) for each in given])


def test_every_field_is_an_option_and_the_command_gets_the_request():
    seen = []

    def command(request: Asked, times: Annotated[int, typer.Option(min=1)] = 1):
        seen.append((request, times))

    assert run(command, "here").exit_code == 0
    given = ("there", "--loud", "--no-quick", "--heavy", 1, "--column", "uid", "--size", 9, "--times", 2)
    assert run(command, *given).exit_code == 0
    assert seen == [
        (Request(place=Path("here"), weight=0.25), 1),
        (Request(place=Path("there"), loud=True, quick=False, weight=1.0, inner=Inner(column="uid", size=9)), 2),
    ]
    printed = run(command, "--help").output
    assert "--no-quick" in printed
    assert "Between 0 and 1." in printed
    assert "--no-loud" not in printed
    assert "--hidden" not in printed
    assert run(command, "here", "--times", 0).exit_code == 2
    assert str(run(command, "here", "--heavy", 2).exception) == "weight is 2.0: expected 0 to 1"


def test_changes_are_what_was_named():
    seen = []

    def command(changes: Annotated[dict[str, Any], Changes(Request, ("weight", "loud"), "as before")]):
        seen.append(changes)

    for given in ((), ("--weight", 0, "--no-loud")):
        assert run(command, *given).exit_code == 0
    assert seen == [{}, {"weight": 0.0, "loud": False}]
    assert "Default: as before." in run(command, "--help").output


def test_help_is_the_docstring_under_the_field_in_plain_words():
    assert field_docstrings(Inner) == {"column": "Name of a column, perhaps.", "size": "Pixels."}


def test_what_cannot_be_spelled_is_refused_at_once():
    def twice(request: Asked, size: int = 1):
        """Inner has one of that name."""

    def unknown(request: Annotated[Inner, Spelling(colour=None)]):
        """Inner has none of that name."""

    with pytest.raises(TypeError, match=r"twice takes \['size'\] twice"):
        with_options(twice)
    with pytest.raises(TypeError, match=r"Inner has no fields \['colour'\]"):
        with_options(unknown)
