"""Names, types and defaults of the options are a promise to scripts: options.json holds what was promised."""

import inspect
import json
from pathlib import Path

from typer.main import get_command

from explorer.cli.application import COMMAND_MODULES, application, load_commands
from explorer.core.provenance import ROOT

PROMISED = Path(__file__).with_name("options.json")


def every_command():
    """(words, command) of every command of the application."""
    load_commands()
    waiting = [((), get_command(application))]
    while waiting:
        words, command = waiting.pop()
        children = getattr(command, "commands", None)
        if children is None:
            yield " ".join(words), command
        else:
            waiting += [((*words, name), child) for name, child in children.items()]


def described(parameter):
    """Type, least and greatest value, and default; ``required`` where there is none."""
    kind = parameter.type_descriptor.annotation
    kind = kind.__name__ if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind)
    default = parameter.default
    if isinstance(default, Path) and default.is_relative_to(ROOT):
        default = default.relative_to(ROOT)
    bounds = "" if (parameter.min, parameter.max) == (None, None) else f" {parameter.min} to {parameter.max}"
    return f"{kind}{bounds} {'required' if parameter.required else f'= {str(default)!r}'}"


def options_of(command):
    """By the names of the option, or by the place and name of what stands without one."""
    named, place = {}, 0
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            place += 1
            name = f"{place} {(parameter.metavar or parameter.name).upper().removesuffix('...')}"
        else:
            name = "/".join([*sorted(parameter.opts), *parameter.secondary_opts])
        named[name] = described(parameter)
    return named


def test_options_keep_their_names_types_and_defaults():
    promised = json.loads(PROMISED.read_text(encoding="utf-8"))
    found = {words: options_of(command) for words, command in every_command()}
    assert sorted(promised.keys() - found.keys()) == []
    for words, options in promised.items():
        assert {name: found[words].get(name) for name in options} == options, words


def test_every_command_lies_in_a_file_that_its_first_word_loads():
    found = {name: set() for name in COMMAND_MODULES}
    for words, command in every_command():
        module = inspect.unwrap(command.callback).__module__
        found[module.removeprefix("explorer.cli.")].add(words.split()[0])
    assert {name: set(words) for name, words in COMMAND_MODULES.items()} == found


def test_no_seed_may_be_negative():
    seeds = {
        f"{words} {name}": described(parameter)
        for words, command in every_command()
        for parameter in command.params
        for name in parameter.opts
        if name.endswith("seed")
    }
    assert len(seeds) > 30
    assert [name for name, told in seeds.items() if not told.startswith("int 0 to")] == []
