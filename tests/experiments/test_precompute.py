"""What the first view is written from, and what it never writes over. ``tests/cli`` makes a whole one."""

import shutil

import pytest

from explorer.experiments.evaluation import EvaluationConfig
from explorer.experiments.evaluation_files import evaluate_folder
from explorer.experiments.precompute import precompute_first_view
from explorer.provenance import write_manifest


@pytest.fixture(scope="module")
def evaluation(micro_world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    evaluate_folder(
        micro_world.output, micro_world.run / "sets", folder, EvaluationConfig(seeds=(0, 1), steps=1, batch_size=8)
    )
    return folder / "evaluation.json"


def test_a_folder_with_other_things_is_left_as_it_is(micro_world, evaluation, tmp_path):
    thesis = tmp_path / "thesis.tex"
    thesis.write_text("hours of work")
    with pytest.raises(ValueError, match="holds other things than a first view"):
        precompute_first_view(micro_world.output, micro_world.run / "sets", evaluation, tmp_path)
    write_manifest(tmp_path, kind="precomputed", config={}, seed=0, files=[])
    with pytest.raises(ValueError, match=r"holds thesis\.tex beside a first view"):
        precompute_first_view(micro_world.output, micro_world.run / "sets", evaluation, tmp_path)
    assert thesis.read_text() == "hours of work"


def test_a_missing_pair_set_is_told_before_anything_is_drawn(micro_world, evaluation, tmp_path):
    sets = shutil.copytree(micro_world.run / "sets", tmp_path / "sets")
    shutil.rmtree(sets / "dirty-002")
    said = []
    with pytest.raises(ValueError, match="lacks the pair set of dirty-002: expected one folder a model"):
        precompute_first_view(micro_world.output, sets, evaluation, tmp_path / "out", say=said.append)
    assert said == []
    assert not (tmp_path / "out").exists()
