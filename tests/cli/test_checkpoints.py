import json

from typer.testing import CliRunner

import explorer.cli.checkpoints
import explorer.cli.generation  # noqa: F401 - registers the commands
from explorer.cli.application import application


def invoke(*arguments):
    result = CliRunner().invoke(application, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def test_checkpoints_lists_sound_and_broken_ones(checkpoint_root):
    (checkpoint_root / "dirty-004" / "unet" / "config.json").unlink()
    output = invoke("checkpoints", checkpoint_root)
    lines = output.splitlines()
    assert lines[0].startswith("benign")
    assert lines[0].endswith("ok")
    assert lines[2].endswith("broken: unet/config.json is missing")
    entries = json.loads(invoke("checkpoints", checkpoint_root, "--thorough", "--json"))["checkpoints"]
    assert [entry["poisoned_concept_count"] for entry in entries] == [0, 2, 4]
    assert entries[1]["poisoned_concepts"] == ["dog", "hat"]


def test_checkpoints_of_an_empty_folder(tmp_path):
    assert invoke("checkpoints", tmp_path).strip() == f"no checkpoints in {tmp_path}"
