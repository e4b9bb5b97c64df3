"""What the first view is written from, and what it never writes over. ``tests/cli`` makes a whole one."""

import json
import shutil

import pytest

from explorer.core.provenance import write_manifest
from explorer.scenarios.first_view import precompute_first_view


@pytest.fixture
def evaluation(micro_evaluation):
    return micro_evaluation[0] / "evaluation.json"


def test_a_folder_with_other_things_is_left_as_it_is(micro_world, evaluation, tmp_path):
    thesis = tmp_path / "thesis.tex"
    thesis.write_text("hours of work")
    with pytest.raises(ValueError, match=r"already holds thesis\.tex: choose a new folder"):
        precompute_first_view(micro_world.output, micro_world.run / "sets", evaluation, tmp_path)
    write_manifest(tmp_path, kind="pair-set", config={}, seed=0, files=[])
    with pytest.raises(ValueError, match="holds other things than a first view"):
        precompute_first_view(micro_world.output, micro_world.run / "sets", evaluation, tmp_path)
    write_manifest(tmp_path, kind="precomputed", config={}, seed=0, files=[])
    with pytest.raises(ValueError, match=r"holds thesis\.tex beside a first view"):
        precompute_first_view(micro_world.output, micro_world.run / "sets", evaluation, tmp_path)
    assert thesis.read_text() == "hours of work"


def test_hidden_files_and_a_manifest_without_files_do_not_stand_in_the_way(micro_world, evaluation, tmp_path):
    (tmp_path / ".DS_Store").touch()
    for files in (None, []):
        (tmp_path / "manifest.json").write_text(json.dumps({"kind": "precomputed", "files": files}))
        with pytest.raises(FileNotFoundError, match="mistyped is not a folder"):  # the next thing that is checked
            precompute_first_view(micro_world.output, tmp_path / "mistyped", evaluation, tmp_path)


def test_a_missing_pair_set_is_told_before_anything_is_drawn(micro_world, evaluation, tmp_path):
    sets = shutil.copytree(micro_world.run / "sets", tmp_path / "sets")
    shutil.rmtree(sets / "dirty-002")
    said = []
    with pytest.raises(ValueError, match="lacks the pair set of dirty-002: expected one folder a model"):
        precompute_first_view(
            micro_world.output,
            sets,
            evaluation,
            tmp_path / "out",
            on_progress=lambda progress: progress.message and said.append(progress.message),
        )
    assert said == []
    assert not (tmp_path / "out").exists()
