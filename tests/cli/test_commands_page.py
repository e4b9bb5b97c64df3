"""docs/commands.md is what the command line says of itself."""

import json

from typer.testing import CliRunner

from explorer.cli.application import application
from explorer.cli.commands_page import described_commands
from explorer.core.provenance import ROOT


def test_the_page_is_what_the_command_prints():
    described = list(described_commands())  # registers all commands
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    printed = CliRunner().invoke(application, ["commands-page"]).stdout
    assert page == printed, "write it again: python -m explorer commands-page > docs/commands.md"
    assert {f"## {command['command']}" for command in described} <= set(page.splitlines())
    as_json = json.loads(CliRunner().invoke(application, ["commands-page", "--json"]).stdout)
    assert as_json["commands"] == described


def test_every_option_says_what_it_means():
    silent = [
        (command["command"], parameter["names"])
        for command in described_commands()
        for parameter in command["parameters"]
        if not parameter["help"]
    ]
    assert silent == []
