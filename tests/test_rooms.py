"""Imports run one way, downward; gradio and plotly stay on the ui floor; files stay short."""

import ast

import pytest

from explorer.core.provenance import ROOT

PACKAGE = ROOT / "explorer"
FILES = sorted(PACKAGE.rglob("*.py"))
LONGEST_FILE = 400

BELOW = {
    "bounded_files": set(),
    "provenance": {"bounded_files"},
    "theory": set(),
    "data": {"bounded_files", "provenance", "theory"},
    "models": {"bounded_files", "provenance", "theory"},
    "experiments": {"bounded_files", "provenance", "theory", "data", "models"},
    "ui": {"bounded_files", "provenance", "theory", "data", "models", "experiments"},
    "cli": {"bounded_files", "provenance", "theory", "data", "models", "experiments"},
    "__main__": {"cli"},
    "__init__": set(),
}
"""Floor -> the floors it may import, besides itself; function-level and type-checking imports count too."""

STARTS_THE_APP = "cli/app.py"
FILE_MODULES = {"glob", "io", "json", "os", "pathlib", "pickle", "safetensors", "shutil", "tempfile"}


def floor_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(tree):
    """(dotted name, whether inside a function) of every import; ``importlib.import_module("...")`` too."""
    in_functions = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.walk(node)
    }
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
        yield from ((name, node in in_functions) for name in names)


def violations(path, source):
    """What ``source`` at ``path`` imports against the rules, as sentences."""
    floor, place = floor_of(path), path.relative_to(PACKAGE).as_posix()
    for name, in_function in imported_modules(ast.parse(source)):
        top, *rest = name.split(".")
        if top in {"gradio", "plotly"} and floor != "ui":
            yield f"{place} imports {name}: only the ui floor may"
        if top in FILE_MODULES and floor == "theory":
            yield f"{place} imports {name}: theory touches no files"
        if top != "explorer" or not rest or rest[0] not in BELOW or rest[0] in {floor, "__init__"}:
            continue
        starts_the_app = place == STARTS_THE_APP and rest[0] == "ui" and in_function
        if rest[0] not in BELOW[floor] and not starts_the_app:
            yield f"{place} imports {name}: {floor} may not import {rest[0]}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_run_downward(path):
    assert floor_of(path) in BELOW, f"{path} is on no known floor"
    assert list(violations(path, path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_files_stay_short(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST_FILE, f"{path} has {lines} lines: expected at most {LONGEST_FILE}"


@pytest.mark.parametrize(
    ("place", "source", "problem"),
    [
        ("theory/a.py", "from explorer.data import pair_set", "theory may not import data"),
        ("theory/a.py", "from explorer import models", "theory may not import models"),
        ("theory/a.py", "def f():\n    import pathlib", "theory touches no files"),
        ("data/a.py", "def f():\n    import explorer.models.x", "data may not import models"),
        ("models/a.py", "from explorer.data import x", "models may not import data"),
        ("experiments/a.py", "import plotly.graph_objects", "only the ui floor may"),
        ("cli/app.py", "from explorer.ui import page", "cli may not import ui"),
        ("cli/world.py", "def f():\n    from explorer.ui import page", "cli may not import ui"),
        ("ui/a.py", "import importlib\nimportlib.import_module('explorer.cli.app')", "ui may not import cli"),
    ],
)
def test_the_rules_catch_a_violation(place, source, problem):
    assert [problem in found for found in violations(PACKAGE / place, source)] == [True]


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("cli/app.py", "def f():\n    from explorer.ui import page"),
        ("ui/a.py", "import gradio\nfrom explorer.experiments import graphs"),
        ("data/a.py", "from explorer.pairs.pair_set import PairSet\nfrom explorer.core.provenance import ROOT"),
        ("provenance.py", "from explorer import __version__"),
    ],
)
def test_the_rules_allow_what_they_should(place, source):
    assert list(violations(PACKAGE / place, source)) == []
