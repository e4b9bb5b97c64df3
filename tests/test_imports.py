"""An import inside a function stands only where it saves a start: it brings a slow package that its module does without
until then, or modules of ours that the app's first view does without; or one that need not be installed, or it would
close a circle."""

import ast
import functools

import pytest

from explorer.core.provenance import ROOT

SLOW = {
    "torch": (), "safetensors.torch": ("torch",), "torchvision": ("torch",), "transformers": (),
    "accelerate": ("torch",), "diffusers": ("torch", "transformers"),
    "open_clip": ("torch", "torchvision", "transformers"),
    "peft": ("torch", "transformers"), "gradio": ("pandas",), "umap": ("sklearn", "numba"), "sklearn": ("scipy",),
    "numba": (), "scipy": (), "pandas": ("pyarrow",), "pyarrow": (), "networkx": (),
}  # fmt: skip
"""Packages that take a tenth of a second or more to import, and what comes with them."""
FIRST_VIEW = "explorer.ui.shell.application"
MODULES = 2
"""Modules of ours that an import must spare the first view: a module takes one to ten milliseconds."""
NOT_REQUIRED = {"triton", "textblob", "pykeops", "wandb", "upath", "cairosvg", "playwright", "fcntl"}


def imports_in(tree):
    """(statement, whether inside a function) of every import that is not for type checking alone."""
    nodes = list(ast.walk(tree))
    inside = {id(child) for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
              for child in ast.walk(node)}  # fmt: skip
    for_types = {id(child) for node in nodes if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
                 for branch in node.body for child in ast.walk(branch)}  # fmt: skip
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in for_types:
            yield node, id(node) in inside


class Package:
    """What importing each module of ours brings, read from their sources alone."""

    def __init__(self, sources, first_view):
        self.imports = {
            module: [
                (name, inside, node.lineno) for node, inside in imports_in(ast.parse(text)) for name in named(node)
            ]
            for module, text in sources.items()
        }
        self.first_view = self.reached(first_view)
        self.brought_by = functools.cache(self.brought_by)

    def ours(self, name):
        """The module of ours that a dotted name lies in; None for somebody else's."""
        while name and name not in self.imports:
            name = name.rpartition(".")[0]
        return name or None

    def reached(self, module, in_functions=False):
        """Every module of ours that comes with one."""
        found, waiting = set(), [module]
        while waiting:
            if (module := waiting.pop()) not in found:
                found.add(module)
                waiting += [self.ours(name) for name, inside, _ in self.imports[module]
                            if self.ours(name) and (in_functions or not inside)]  # fmt: skip
        return found

    def brought_by(self, name):
        """Slow packages that come with a dotted name."""
        module = self.ours(name)
        if module is None:
            return slow_in(name)
        return frozenset().union(
            *(slow_in(name) for each in self.reached(module) for name, inside, _ in self.imports[each] if not inside)
        )

    def not_required(self, module):
        """Packages that need not be installed, without which a module cannot be imported."""
        return {name.split(".")[0] for each in self.reached(module) for name, inside, _ in self.imports[each]
                if not inside} & NOT_REQUIRED  # fmt: skip

    def impossible(self):
        """Modules that cannot be imported everywhere, because one that they import names what need not be installed."""
        for module, imports in self.imports.items():
            own = {name.split(".")[0] for name, inside, _ in imports if not inside}
            if lacking := self.not_required(module) - own:
                yield f"{module}: {', '.join(sorted(lacking))}"

    def spares_first_view(self, module, name):
        """Whether the app's first view does without what a module imports in a function."""
        if module not in self.first_view or self.ours(name) is None:
            return False
        return len(self.reached(self.ours(name)) - self.first_view) >= MODULES

    def needless(self):
        """``module, line: name`` of every import in a function that might as well stand at the top."""
        for module, imports in self.imports.items():
            for name, inside, line in imports:
                if not inside or name.split(".")[0] in NOT_REQUIRED:
                    continue
                saved = self.brought_by(name) - self.brought_by(module)
                circular = self.ours(name) and module in self.reached(self.ours(name), in_functions=True)
                optional = self.ours(name) and self.not_required(self.ours(name))
                if not saved and not circular and not optional and not self.spares_first_view(module, name):
                    yield f"{module}, line {line}: {name}"


def named(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [f"{node.module}.{alias.name}" for alias in node.names]


def slow_in(name):
    first, second = name.split(".")[0], ".".join(name.split(".")[:2])
    found = second if second in SLOW else first
    return frozenset({found, *SLOW[found]}) if found in SLOW else frozenset()


@functools.cache
def sources_package():
    """Ours, as its sources are."""
    sources = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path.read_text("utf-8")
               for path in (ROOT / "explorer").rglob("*.py")}  # fmt: skip
    return Package(sources, FIRST_VIEW)


def test_imports_in_functions_save_something():
    assert list(sources_package().needless()) == []


def test_what_need_not_be_installed_is_imported_where_it_is_used():
    assert list(sources_package().impossible()) == []


def test_the_first_view_is_without_what_is_asked_for_later():
    later = {"iconworld", "embeddings", "training", "poisoning", "surgery", "scenarios", "benchmarks", "cli"}
    loaded = sources_package().first_view
    assert {module for module in loaded if module.split(".")[1:2] and module.split(".")[1] in later} == set()
    assert not {module for module in loaded if module.startswith("explorer.studies.steps")}


@pytest.mark.parametrize(
    ("source", "needless"),
    [
        ("def f():\n    import json", 1),
        ("def f():\n    import torch", 0),
        ("import torch\ndef f():\n    import torch", 1),
        ("from explorer.b import x\ndef f():\n    import torch", 1),
        ("def f():\n    from explorer.b import x", 0),
        ("def f():\n    from explorer.c import x", 1),
        ("def f():\n    from explorer.d import x", 0),
        ("def f():\n    import wandb", 0),
        ("def f():\n    from explorer.e import x", 0),
        ("if TYPE_CHECKING:\n    import torch\ndef f():\n    import torch", 0),
    ],
)
def test_the_rule_finds_what_saves_nothing(source, needless):
    others = {"explorer": "", "explorer.b": "import torch\nx = 1", "explorer.c": "x = 1",
              "explorer.d": "from explorer.a import f\nx = 1", "explorer.e": "import triton\nx = 1"}  # fmt: skip
    assert len(list(Package({**others, "explorer.a": source}, "explorer.b").needless())) == needless


def test_the_rule_finds_who_imports_what_need_not_be_installed():
    sources = {"explorer": "", "explorer.a": "import triton", "explorer.b": "from explorer.a import x",
               "explorer.c": "def f():\n    from explorer.a import x"}  # fmt: skip
    assert list(Package(sources, "explorer.c").impossible()) == ["explorer.b: triton"]


def test_the_first_view_is_spared_several_modules():
    sources = {"explorer": "", "explorer.a": "def f():\n    from explorer.b import x\n    from explorer.c import x",
               "explorer.b": "from explorer.c import x", "explorer.c": "x = 1"}  # fmt: skip
    assert list(Package(sources, "explorer.a").needless()) == ["explorer.a, line 3: explorer.c.x"]
    assert len(list(Package(sources, "explorer.b").needless())) == 2
