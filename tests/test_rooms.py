"""Rooms are named after the field's ideas, and imports run one way; gradio and plotly stay in ui; files stay short."""

import ast

import pytest

from explorer.core.provenance import ROOT

PACKAGE = ROOT / "explorer"
FILES = sorted(PACKAGE.rglob("*.py"))
LONGEST_FILE = 350
LONGEST_FUNCTION = 50

ROOMS = (
    "core", "attention", "checkpoints", "pairs", "iconworld", "embeddings", "training", "alignment", "poisoning",
    "generation", "evaluation", "meter", "surgery", "defence", "studies", "results", "scenarios", "benchmarks",
    "ui", "cli",
)  # fmt: skip
"""A room imports itself and rooms before it, in functions and for type checking too; docs/architecture.md says why."""

OF_THE_APP = ("cli/app.py", "cli/app_timing.py")
"""The files of cli that import ui: they start the app and time it."""
PURE = (
    "core/intervals.py", "core/sampling_design.py", "core/share.py", "attention/statistics.py",
    "alignment/difficulty.py", "alignment/local_difficulty.py", "alignment/updates.py", "alignment/growth.py",
    "alignment/structure/distance.py",
    "alignment/structure/fixed_point.py", "alignment/structure/columns.py",
    "alignment/structure/controls.py", "alignment/structure/set_statistics.py", "alignment/streamed_difficulty.py",
    "alignment/structure/tiles.py", "alignment/structure/estimators.py", "alignment/structure/check.py",
    "defence/recipe.py", "defence/grading.py", "defence/remaining.py", "defence/scores.py",
    "poisoning/perturbation.py", "poisoning/structural_similarity.py", "poisoning/target_choice.py",
    "poisoning/target_selection.py",
    "meter/amplitudes.py", "checkpoints/module_groups.py", "checkpoints/displacement.py", "generation/amplitudes.py",
)  # fmt: skip
"""Mathematics: of what is installed these import torch and numpy only, and of ours one another."""
STANDARD = {"__future__", "collections", "dataclasses", "math", "typing", "importlib", "contextlib", "functools",
            "itertools", "statistics", "time", "enum", "heapq"}  # fmt: skip


def place_of(path):
    return path.relative_to(PACKAGE).as_posix()


def imported_modules(tree):
    """The dotted name of every import, in functions as well; ``importlib.import_module("...")`` too."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import, expected a full module name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            argument = node.args[0]
            names = [argument.value] if isinstance(argument, ast.Constant) else []
        yield from names


def violations(place, source):
    """What ``source`` at ``place`` imports against the rules, as sentences."""
    room = place.split("/")[0].removesuffix(".py")
    for name in imported_modules(ast.parse(source)):
        top, *rest = name.split(".")
        if top in {"gradio", "plotly"} and room != "ui":
            yield f"{place} imports {name}: only ui may"
        if place in PURE and top not in {*STANDARD, "torch", "numpy", "scipy", "explorer"}:
            yield f"{place} imports {name}: mathematics imports torch and numpy only"
        if top != "explorer" or not rest or rest[0] not in ROOMS or rest[0] == room:
            continue
        of_the_app = place in OF_THE_APP and rest[0] == "ui"
        above = room not in ROOMS or ROOMS.index(rest[0]) > ROOMS.index(room)
        if place != "__main__.py" and not of_the_app and (above or (room == "cli" and rest[0] == "ui")):
            yield f"{place} imports {name}: {room} may not import {rest[0]}"


def long_functions(source):
    """``name: lines`` of every function that is too long, its docstring not counted."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            is_doc = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            lines = node.end_lineno - node.lineno + 1 - (first.end_lineno - first.lineno + 1 if is_doc else 0)
            if lines > LONGEST_FUNCTION:
                yield f"{node.name}: {lines}"


@pytest.mark.parametrize("path", FILES, ids=place_of)
def test_imports_run_one_way(path):
    place = place_of(path)
    assert place.split("/")[0] in (*ROOMS, "__init__.py", "__main__.py"), f"{place} is in no known room"
    assert list(violations(place, path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", FILES, ids=place_of)
def test_files_and_functions_stay_short(path):
    source = path.read_text(encoding="utf-8")
    lines = len(source.splitlines())
    assert lines <= LONGEST_FILE, f"{path} has {lines} lines: expected at most {LONGEST_FILE}"
    assert list(long_functions(source)) == []


def test_every_pure_file_is_there():
    assert [place for place in PURE if not (PACKAGE / place).is_file()] == []


@pytest.mark.parametrize(
    ("place", "source", "problem"),
    [
        ("core/a.py", "from explorer.pairs import pair_set", "core may not import pairs"),
        ("attention/a.py", "from explorer import checkpoints", "attention may not import checkpoints"),
        ("pairs/sources/a.py", "def f():\n    import explorer.iconworld.x", "pairs may not import iconworld"),
        ("alignment/growth.py", "def f():\n    import pandas", "mathematics imports torch and numpy only"),
        ("evaluation/a.py", "import plotly.graph_objects", "only ui may"),
        ("cli/world.py", "def f():\n    from explorer.ui import page", "cli may not import ui"),
        ("ui/a.py", "import importlib\nimportlib.import_module('explorer.cli.app')", "ui may not import cli"),
    ],
)
def test_the_rules_catch_a_violation(place, source, problem):
    assert [problem in found for found in violations(place, source)] == [True]


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("cli/app.py", "from explorer.ui import page"),
        ("ui/a.py", "import gradio\nfrom explorer.evaluation import judge"),
        ("pairs/a.py", "from explorer.pairs.pair_set import PairSet\nfrom explorer.core.provenance import ROOT"),
        ("core/provenance.py", "from explorer import __version__"),
    ],
)
def test_the_rules_allow_what_they_should(place, source):
    assert list(violations(place, source)) == []


def test_a_long_function_is_found():
    body = "\n".join("    x = 1" for _ in range(LONGEST_FUNCTION))
    assert list(long_functions(f"def f():\n{body}")) == [f"f: {LONGEST_FUNCTION + 1}"]
