import base64
import json

from explorer.ui.screens.compare.benchmark import live_comparison_cost
from explorer.ui.screens.compare.live_generation import LiveGeneration
from explorer.ui.shell.context import AppContext, AppSettings
from explorer.ui.shell.permalink import CompareSettings


def test_all_of_the_apps_work_is_timed_and_its_columns_are_whole(checkpoint_root, monkeypatch):
    monkeypatch.setattr("explorer.ui.shell.connections.SECONDS_TO_COME", -1.0)  # nobody listens to a benchmark
    context = AppContext(settings=AppSettings(checkpoints=checkpoint_root))
    live, rows = LiveGeneration(context), []
    settings = CompareSettings(prompt="a photo of a dog", steps=2, guidance_scale=2.0, models=("benign", "dirty-002"))
    for name in settings.models:
        live.pipeline(context.study(), name).unet.register_forward_pre_hook(
            lambda unet, inputs: rows.append(inputs[0].shape[0])
        )
    cost = live_comparison_cost(live, context.study(), settings, rounds=1)
    assert rows == [2] * (2 * 2 * 4), "two models, two steps, once measured and once bare, and the uncounted round"
    assert len(cost.seconds) == len(cost.bare_seconds) == 1
    columns = [kept.payload for kept in live.results._kept.values()]
    assert [column["model"] for column in columns] == ["benign", "dirty-002"] * 2
    assert base64.b64decode(columns[0]["stacks"][0]["values"])
    assert json.dumps(columns[0])
