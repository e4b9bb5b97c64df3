"""Which models are evaluated, against which control, with which pair sets."""

import shutil

import pytest

from explorer.core.provenance import write_manifest
from explorer.evaluation.config import EvaluationConfig
from explorer.evaluation.files import evaluate_folder, sets_of, usable_models, world_of

CONFIG = EvaluationConfig(seeds=(0, 1), steps=1, batch_size=8)
NAMES = ["benign", "dirty-002", "dirty-004"]


@pytest.fixture
def folder(micro_world, tmp_path):
    """The micro world's models, to be added to."""
    return shutil.copytree(micro_world.output, tmp_path / "models")


def test_a_model_without_a_record_of_poison_is_left_out_by_name(folder):
    shutil.copytree(folder / "benign", folder / "a-mine", ignore=shutil.ignore_patterns("manifest.json"))
    said = []
    assert [model.name for model in usable_models(folder, said.append)] == NAMES
    assert [told.message for told in said] == ["left out, since no manifest records their poison: a-mine"]


def test_the_control_is_one_that_names_its_world(folder, micro_recipe):
    shutil.copytree(folder / "benign", folder / "a-tuned")
    write_manifest(folder / "a-tuned", kind="checkpoint", config={"poison": {"kind": "none", "concepts": 0}}, seed=0)
    models = usable_models(folder)
    assert [model.name for model in models] == ["benign", "a-tuned", "dirty-002", "dirty-004"]
    assert world_of(models[0]).concepts == micro_recipe.world().concepts


def test_without_a_control_there_is_nothing_to_measure_by(folder, checkpoint_root):
    shutil.rmtree(folder / "benign")
    for place in (folder, checkpoint_root):
        with pytest.raises(ValueError, match="holds no usable benign control of IconWorld"):
            usable_models(place)


def test_absent_sets_are_told_before_anything_is_drawn(folder, micro_world, tmp_path):
    with pytest.raises(FileNotFoundError, match="mistyped is not a folder"):
        evaluate_folder(folder, tmp_path / "mistyped", tmp_path / "out", CONFIG)
    sets = tmp_path / "sets"
    shutil.copytree(micro_world.run / "sets" / "benign", sets / "benign")
    assert list(sets_of(usable_models(folder), sets)) == ["benign"]
    for name in NAMES[1:]:
        shutil.rmtree(folder / name)
    said = []
    report = evaluate_folder(
        folder,
        None,
        tmp_path / "out",
        CONFIG,
        on_progress=lambda progress: progress.message and said.append(progress.message),
    )
    assert said[0] == "benign: AD is left out, since no folder of pair sets was given"
    assert report["models"][0]["alignment_difficulty"] is None
