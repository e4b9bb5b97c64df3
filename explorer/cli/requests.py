"""From frozen dataclasses to options: a command's requests are spelled out once, where they are defined.

A parameter of a command whose type is a dataclass becomes one option a field: the field's name, type and default are
the option's, the docstring under it the help. The command is called with the finished request.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
import typing
from collections.abc import Callable
from copy import copy
from functools import cache, wraps
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer
from typer.models import ArgumentInfo, ParameterInfo

from explorer.cli.application import application


class Spelling(dict):
    """How one command spells fields of a request, by their names: an ``Option`` or ``Argument``, whose own default and
    help count if it has any; None leaves a field out, at its default.

    ``Annotated[GenerationRequest, Spelling(prompt=typer.Argument(), seed=typer.Option(7))]``
    """

    def __init__(self, **fields: Any) -> None:
        super().__init__(fields)


@dataclasses.dataclass(frozen=True)
class Changes:
    """Options for some fields of a dataclass, none of them given unless a user names it; the command gets a dictionary
    of those named. ``Annotated[dict[str, Any], Changes(TrainingConfig, ("steps", "seed"), "the recipe's")]``"""

    of: type
    names: tuple[str, ...]
    instead_of: str
    """What holds where an option is not given, for the help."""


def command(name: str, group: typer.Typer = application) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register the decorated function as ``explorer NAME``, with the options of its requests; returns it unchanged."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        group.command(name)(with_options(function))
        return function

    return register


def with_options(function: Callable[..., None]) -> Callable[..., None]:
    """A function that takes every field of ``function``'s requests by its name, as typer reads it."""
    parameters: dict[str, inspect.Parameter] = {}
    makers = {}
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        options, makers[parameter.name] = _options_of(parameter)
        if doubled := options.keys() & parameters.keys():
            raise TypeError(f"{function.__name__} takes {sorted(doubled)} twice: spell one of the two another way")
        parameters |= options

    @wraps(function)
    def flat(**values: Any) -> None:
        function(**{name: make(values) for name, make in makers.items()})

    flat.__signature__ = inspect.Signature(parameters.values())
    flat.__annotations__ = {name: parameter.annotation for name, parameter in parameters.items()}
    return flat


def _options_of(parameter: inspect.Parameter) -> tuple[dict[str, inspect.Parameter], Callable[[dict], Any]]:
    """The options of one parameter of a command, and what makes its value of theirs."""
    base, *markers = get_args(parameter.annotation) if _is_annotated(parameter.annotation) else (parameter.annotation,)
    changes = next((marker for marker in markers if isinstance(marker, Changes)), None)
    if changes is not None:
        return _options_of_changes(changes)
    if dataclasses.is_dataclass(base):
        spelling = next((marker for marker in markers if isinstance(marker, Spelling)), Spelling())
        return _options_of_request(base, spelling)
    name = parameter.name
    return {name: parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)}, lambda values: values[name]


def _options_of_request(request: type, spelling: Spelling) -> tuple[dict[str, Any], Callable[[dict], Any]]:
    options: dict[str, inspect.Parameter] = {}
    makers: dict[str, Callable[[dict], Any]] = {}
    types, helps = typing.get_type_hints(request, include_extras=True), field_docstrings(request)
    if unknown := spelling.keys() - types.keys():
        raise TypeError(f"{request.__name__} has no fields {sorted(unknown)}")
    for field in dataclasses.fields(request):
        if field.name in spelling and spelling[field.name] is None:
            continue
        kind, *markers = get_args(types[field.name]) if _is_annotated(types[field.name]) else (types[field.name],)
        if dataclasses.is_dataclass(kind):
            own = next((marker for marker in markers if isinstance(marker, Spelling)), Spelling())
            inner = Spelling(**{**own, **(spelling.get(field.name) or {})})
            nested, makers[field.name] = _options_of_request(kind, inner)
            options |= nested
            continue
        asked = spelling.get(field.name, next((each for each in markers if isinstance(each, ParameterInfo)), None))
        made = _option(field.name, kind, _default_of(field), helps.get(field.name, ""), asked)
        # A field of another request may have the same name: the option's own name keeps the two apart.
        named = made.default.param_decls and not isinstance(made.default, ArgumentInfo)
        key = made.default.param_decls[0].split("/")[0].strip("-").replace("-", "_") if named else field.name
        options[key] = made.replace(name=key)
        makers[field.name] = lambda values, key=key: values[key]
    return options, lambda values: request(**{name: make(values) for name, make in makers.items()})


def _options_of_changes(changes: Changes) -> tuple[dict[str, Any], Callable[[dict], Any]]:
    types, helps = typing.get_type_hints(changes.of), field_docstrings(changes.of)
    options = {
        name: _option(
            name, types[name] | None, None, f"{helps.get(name, '')} Default: {changes.instead_of}.".strip(), None
        )
        for name in changes.names
    }
    return options, lambda values: {name: values[name] for name in changes.names if values[name] is not None}


def _option(name: str, kind: Any, default: Any, help_text: str, asked: ParameterInfo | None) -> inspect.Parameter:
    """One option as typer takes it: ``asked`` with what it leaves open filled in."""
    info = copy(asked) if asked is not None else typer.Option()
    if isinstance(info.default, str) and info.default.startswith("-"):
        info.default, info.param_decls = ..., (info.default, *info.param_decls)  # as typer reads it in Annotated
    if info.default is ...:
        info.default = default
    info.help = info.help or help_text
    if (name == "seed" or name.endswith("_seed")) and info.min is None:
        info.min = 0  # numpy takes no other, and does not say what was wrong
    if kind is bool and info.default is False and not info.param_decls:
        info.param_decls = (f"--{name.replace('_', '-')}",)  # nothing is to be switched off
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=info)


def _default_of(field: dataclasses.Field) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return ... if field.default_factory is dataclasses.MISSING else field.default_factory()


def field_docstrings(request: type) -> dict[str, str]:
    """The docstring under each field of a dataclass and of those it inherits from, without marks, on one line."""
    found: dict[str, str] = {}
    for owner in reversed(request.__mro__[:-1]):
        body = _classes(sys.modules[owner.__module__].__file__)[owner.__qualname__]
        for statement, following in zip(body, [*body[1:], None], strict=True):
            if isinstance(statement, ast.AnnAssign) and isinstance(following, ast.Expr):
                text = " ".join(inspect.cleandoc(ast.literal_eval(following.value)).split())
                found[statement.target.id] = text.replace("``", "")
    return found


@cache
def _classes(file: str) -> dict[str, list[ast.stmt]]:
    """Bodies of a file's top-level classes by name."""
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    return {node.name: node.body for node in tree.body if isinstance(node, ast.ClassDef)}


def _is_annotated(kind: Any) -> bool:
    return get_origin(kind) is Annotated
