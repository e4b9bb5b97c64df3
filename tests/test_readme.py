"""README is documentation that is run: what it names must exist, and every file must be in its tree."""

import importlib
import re

import pytest

from explorer.cli.application import COMMAND_MODULES, application
from explorer.core.provenance import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def registered_commands():
    from typer.main import get_command

    for name in COMMAND_MODULES:
        importlib.import_module(f"explorer.cli.{name}")
    return get_command(application)


def test_every_command_that_readme_names_is_registered():
    command = registered_commands()
    named = re.findall(r"python -m explorer ([a-z][a-z0-9-]*)(?: ([a-z][a-z-]*))?", README)
    assert len({first for first, _ in named}) > 8
    for first, second in named:
        assert first in command.commands, f"README names `explorer {first}`"
        group = getattr(command.commands[first], "commands", None)
        if group is not None:
            assert second in group, f"README names `explorer {first} {second}`"


def test_every_command_is_documented_in_readme():
    command = registered_commands()
    missing = [name for name in command.commands if f"python -m explorer {name}" not in README]
    assert missing == []


def test_every_command_prints_json_on_request():
    def leaves(command):
        for child in getattr(command, "commands", {}).values():
            yield from leaves(child) if hasattr(child, "commands") else [child]

    without = [
        leaf.name
        for leaf in leaves(registered_commands())
        if leaf.name != "app" and not any("--json" in parameter.opts for parameter in leaf.params)
    ]
    assert without == []


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:explorer|assets|checkpoints|tests)/[\w./-]+)`", README))))
def test_every_path_that_readme_names_exists(path):
    assert (ROOT / path).exists()


def test_the_tree_lists_every_module():
    modules = [path for path in (ROOT / "explorer").rglob("*.py") if path.name != "__init__.py"]
    assert len(modules) > 50
    missing = [str(path.relative_to(ROOT)) for path in modules if f"{path.name} " not in README]
    assert missing == []
