"""A graft beside its two models in Compare."""

import json

import numpy as np
import pytest

from explorer.ui.screens.compare.live_generation import LiveGeneration
from explorer.ui.shell.context import AppContext, AppSettings
from explorer.ui.shell.permalink import CompareSettings

SETTINGS = CompareSettings(
    prompt="a photo of a dog", seed=1, steps=2, guidance_scale=2.0, models=("dirty-004", "graft", "benign")
)


@pytest.fixture
def draw(checkpoint_root):
    """``draw(parts)``: the three columns, the graft having these parts of ``benign``."""
    context = AppContext(settings=AppSettings(checkpoints=checkpoint_root))
    live = LiveGeneration(context)
    folder = checkpoint_root / "graft"
    folder.mkdir()

    def columns(parts):
        graft = {"recipient": "../dirty-004", "donor": "../benign", "parts": parts}
        (folder / "graft.json").write_text(json.dumps(graft), encoding="utf-8")
        context.study().refresh_registry()
        *_, last = live.run(context.study(), SETTINGS, "session", live.clicks.begin("session"))
        return [live.result(url.split("/")[-1].removesuffix(".json")) for url in last.finished]

    return columns


def test_a_graft_is_a_column_and_drawn_anew_when_its_file_changes(draw):
    recipient, graft, donor = draw([{"group": "all"}])
    assert graft["model"] == "graft"
    assert graft["image"] == donor["image"] != recipient["image"]
    recipient, graft, donor = draw([{"group": "all", "weight": 0}])
    assert graft["image"] == recipient["image"]
    assert np.prod(graft["stacks"][0]["shape"]) > 0
    _, graft, _ = draw([{"group": "cross-attention"}])
    assert graft["image"] not in (recipient["image"], donor["image"])
