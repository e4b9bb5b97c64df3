"""In what poison differs from benign pairs besides picture and caption being strangers, and how little that tells."""

import json

import numpy as np
import pytest

from explorer.core.intervals import area_under_curve
from explorer.iconworld.world import generate_pair_set
from explorer.poisoning.dirty_label import DirtyLabelPoison
from explorer.scenarios.recipes import CPU


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """The training pairs of a set made as the shipped recipe makes them, a third of the size."""
    folder = tmp_path_factory.mktemp("sets")
    benign = generate_pair_set(CPU.fine_tuning_world(), folder / "benign", train=3000, seed=1)
    poison = DirtyLabelPoison(concept_count=40, pairs_per_concept=50, seed=0)
    return poison.apply(benign, folder / "poisoned").table


def test_no_shortcut_tells_poison_from_benign_pairs(table):
    scenes = [json.loads(scene) for scene in table["scene"]]
    shortcuts = {
        "fewer objects pictured": np.array([-len(scene["objects"]) for scene in scenes]),
        "larger objects": np.array([max(item["size"] for item in scene["objects"]) for scene in scenes]),
        "longer captions": table["caption"].str.split().str.len().to_numpy(),
        "more nouns in the caption": table["concepts"].str.len().to_numpy(),
    }
    is_poison = table["is_poison"].to_numpy(bool)
    for name, values in shortcuts.items():
        area = area_under_curve(values[is_poison].astype(float), values[~is_poison].astype(float))
        assert 0.55 < area < 0.65, f"{name}: AUC {area:.3f}"
