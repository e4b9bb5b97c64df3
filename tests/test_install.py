"""``pip install -e .``: the package, its scripts and styles, what it needs, and the console command."""

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
import venv
import zipfile

import pytest

from explorer.core.provenance import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
COMMAND = "implosion-explorer"
LISTED = """
import json
from importlib.metadata import distribution

found = distribution("implosion-explorer")
print(json.dumps({"requires": found.requires, "command": [each.value for each in found.entry_points]}))
"""
without_setuptools = pytest.mark.skipif(
    importlib.util.find_spec("setuptools") is None, reason="setuptools, which builds the package, is not installed"
)


def required(name):
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return {re.split(r"[<>=]", line)[0] for line in lines if line and not line.startswith(("#", "-"))}


def test_what_is_needed_is_written_once():
    dynamic = PROJECT["tool"]["setuptools"]["dynamic"]
    assert dynamic == {"dependencies": {"file": ["requirements.txt"]}}
    assert PROJECT["project"]["scripts"] == {COMMAND: "explorer.cli.application:main"}
    assert (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").startswith("-r requirements.txt\n")
    assert {"pytest", "ruff", "playwright"} <= required("requirements-dev.txt")
    assert required("requirements.txt").isdisjoint(required("requirements-dev.txt"))


@pytest.fixture
def source(tmp_path):
    """A project folder of links: what building and installing write lands beside them."""
    folder = tmp_path / "source"
    folder.mkdir()
    for name in ("explorer", "pyproject.toml", "requirements.txt", "README.md"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def pip(*arguments):
    ended = subprocess.run([sys.executable, "-m", "pip", *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


@without_setuptools
def test_a_wheel_holds_every_module_script_and_style(source, tmp_path):
    pip("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, source)
    (wheel,) = tmp_path.glob("*.whl")
    packaged = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("explorer/")}
    kinds = {".py", ".js", ".css"}
    present = {path.relative_to(ROOT).as_posix() for path in (ROOT / "explorer").rglob("*") if path.suffix in kinds}
    assert packaged == present


@pytest.mark.slow
@without_setuptools
def test_an_installation_gives_the_command(source, tmp_path):
    """Into a new environment that borrows this one's packages, so that nothing is fetched."""
    environment = tmp_path / "venv"
    venv.create(environment)
    python = environment / "bin" / "python"
    borrowed = "\n".join(path for path in sys.path if path.endswith("site-packages"))
    (next(environment.glob("lib/python*/site-packages")) / "borrowed.pth").write_text(borrowed, encoding="utf-8")
    pip("--python", python, "install", "--quiet", "--no-deps", "--no-build-isolation", "-e", source)
    listed = json.loads(subprocess.run([python, "-c", LISTED], capture_output=True, check=True, cwd=tmp_path).stdout)
    assert {re.split(r"[<>=,]", line)[0] for line in listed["requires"]} == required("requirements.txt")
    assert listed["command"] == ["explorer.cli.application:main"]
    command = [environment / "bin" / COMMAND, "recipes", "--json"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "sd15" in json.loads(shown.stdout)
