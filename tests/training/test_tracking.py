import importlib.util
import json

import pytest

from explorer.training.tracking import check_tracker
from explorer.training.trainer import METRICS_NAME, train
from tests.training.test_trainer import LineTask, config


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed")
def test_tensorboard_shows_what_the_metrics_say(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    seen = []
    train(LineTask(), config(steps=20), tmp_path, identity={"data": "a"}, track="tensorboard",
          on_progress=lambda progress: seen.append(progress.done), should_stop=lambda: seen[-1:] == [10])  # fmt: skip
    train(LineTask(), config(steps=20), tmp_path, identity={"data": "a"}, track="tensorboard")
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    lines = [json.loads(line) for line in (tmp_path / METRICS_NAME).read_text().splitlines()]
    assert [event.step for event in events.Scalars("loss")] == [line["step"] for line in lines] == [5, 10, 15, 20]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx([line["loss"] for line in lines])
    assert events.Scalars("samples_per_second")[0].value > 0


def test_an_unknown_tracker_is_refused():
    check_tracker(None)
    with pytest.raises(ValueError, match="tracker is 'mlflow': expected one of tensorboard, wandb"):
        check_tracker("mlflow")


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="wandb is installed")
def test_a_missing_tracker_is_named_before_anything_starts(tmp_path):
    with pytest.raises(ValueError, match="tracker is 'wandb', which is not installed: pip install wandb"):
        train(LineTask(), config(), tmp_path, identity={}, track="wandb")
    assert list(tmp_path.iterdir()) == []
