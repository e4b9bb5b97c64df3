"""``explorer commands-page``: every command with its options, as the page docs/commands.md."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

from explorer.cli.application import AsJson, application, emit, load_commands
from explorer.core.provenance import ROOT

HEAD = """# Commands

`python -m explorer COMMAND`, or `implosion-explorer COMMAND` once it is installed with `pip install -e .`. Whatever
takes longer than a second shows its progress on stderr where that is a terminal; the result alone goes to stdout.

This page is made by `python -m explorer commands-page > docs/commands.md`.
"""


@application.command("commands-page")
def commands_page(as_json: AsJson = False) -> None:
    """Print this page: all commands with their options, in Markdown."""
    commands = list(described_commands())
    if as_json:
        emit({"commands": commands}, True)
    else:
        typer.echo("\n".join([HEAD, *(_section(command) for command in commands)]), nl=False)


def described_commands() -> Iterator[dict[str, Any]]:
    """Of every command, by name: what it does and its parameters with names, type, default and meaning."""
    load_commands()
    waiting = [("", get_command(application))]
    while waiting:
        name, command = waiting.pop()
        children = getattr(command, "commands", None)
        if children is None:
            parameters = [_described(parameter) for parameter in command.params]
            yield {"command": name, "help": command.help, "parameters": parameters}
        else:
            waiting += sorted(((f"{name} {word}".strip(), child) for word, child in children.items()), reverse=True)


def _described(parameter: Any) -> dict[str, Any]:
    is_argument = parameter.param_type_name == "argument"
    names = [*parameter.opts, *parameter.secondary_opts]
    if is_argument:
        names = [(parameter.metavar or parameter.name).upper()]
    default = parameter.default
    if isinstance(default, Path) and default.is_relative_to(ROOT):
        default = default.relative_to(ROOT)
    return {
        "names": names,
        "default": None if parameter.required or default is None else str(default),
        "required": parameter.required,
        "flag": not is_argument and bool(parameter.is_flag),
        "several": parameter.nargs == -1 or parameter.multiple,
        "help": parameter.help or "",
    }


def _section(command: dict[str, Any]) -> str:
    places = "".join(f" {parameter['names'][0]}" for parameter in command["parameters"] if _stands_alone(parameter))
    lines = [f"## {command['command']}", "", f"`python -m explorer {command['command']}{places}`", "", command["help"]]
    lines += ["", "| option | default | meaning |", "|---|---|---|"]
    return "\n".join([*lines, *map(_row, command["parameters"])]) + "\n"


def _stands_alone(parameter: dict[str, Any]) -> bool:
    return not parameter["names"][0].startswith("-")


def _row(parameter: dict[str, Any]) -> str:
    names = ", ".join(f"`{name}`" for name in parameter["names"])
    default = "required" if parameter["required"] else ""
    if parameter["default"] and not (parameter["flag"] and parameter["default"] == "False"):
        default = f"`{parameter['default']}`"
    meaning = parameter["help"].replace("|", "\\|")
    several = " Repeatable." if parameter["several"] and not _stands_alone(parameter) else ""
    return f"| {names} | {default} | {meaning}{several} |"
