import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from explorer.core.provenance import ROOT
from explorer.iconworld.denoiser import build_denoiser, build_scheduler
from explorer.pairs.pair_set import PairSet
from explorer.scenarios.train_denoiser import train_denoiser
from explorer.training.config import TrainingConfig, learning_rate_factor
from explorer.training.state import SETTINGS_NAME, STATE_NAME, finished_steps
from explorer.training.trainer import METRICS_NAME, step_indices, train


class LineFit(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.line = torch.nn.Linear(3, 1)

    def forward(self, batch):
        return (self.line(batch["x"])[:, 0] - batch["y"]).square().mean()


class LineTask:
    def __init__(self, rows=40):
        self.network = LineFit()
        self.x = torch.randn(rows, 3, generator=torch.Generator().manual_seed(1))
        self.y = self.x @ torch.tensor([1.0, -2.0, 0.5]) + 0.3

    def __len__(self):
        return len(self.x)

    def batch(self, indices, generator):
        return {"x": self.x[indices], "y": self.y[indices] + 0.01 * torch.randn(len(indices), generator=generator)}


def config(**changes):
    settings = {"steps": 60, "batch_size": 8, "learning_rate": 0.05, "warmup_steps": 5, "ema_decay": 0.9}
    return TrainingConfig(**{**settings, "checkpoint_every": 10, "log_every": 5, **changes})


def weights(network):
    return torch.cat([value.flatten() for value in network.state_dict().values()])


def test_training_finds_the_line(tmp_path):
    trained = train(LineTask(), config(steps=300), tmp_path, identity={})
    assert torch.allclose(trained.line.weight, torch.tensor([[1.0, -2.0, 0.5]]), atol=0.05)
    losses = [json.loads(line)["loss"] for line in (tmp_path / METRICS_NAME).read_text().splitlines()]
    assert losses[-1] < losses[0] / 50
    assert finished_steps(tmp_path) == 300


def test_a_stopped_run_goes_on_bit_identically(tmp_path):
    whole = train(LineTask(), config(), tmp_path / "whole", identity={})
    done = []
    train(LineTask(), config(), tmp_path / "cut", identity={}, on_progress=lambda progress: done.append(progress.done),
          should_stop=lambda: bool(done) and done[-1] >= 25)  # fmt: skip
    assert finished_steps(tmp_path / "cut") == 25
    resumed = train(LineTask(), config(), tmp_path / "cut", identity={})
    assert torch.equal(weights(whole), weights(resumed))


@pytest.mark.parametrize("stop_at", [7, 10, 22])
def test_logged_losses_do_not_tell_where_a_run_was_cut_off(tmp_path, stop_at):
    """Checkpoints fall between logged steps: a line after resuming averages the steps before it, too."""
    settings = config(steps=32, checkpoint_every=4, log_every=5)
    train(LineTask(), settings, tmp_path / "whole", identity={})
    steps = iter(range(1, 33))
    train(LineTask(), settings, tmp_path / "cut", identity={}, should_stop=lambda: next(steps) == stop_at)
    train(LineTask(), settings, tmp_path / "cut", identity={})
    assert len(logged(tmp_path / "whole")) == 7
    assert logged(tmp_path / "cut") == logged(tmp_path / "whole")


def test_two_runs_in_one_folder_do_not_mix(tmp_path):
    refused = []

    def second(progress):
        with pytest.raises(ValueError, match=f"is being written by process {os.getpid()} on"):
            train(LineTask(), config(), tmp_path / "run", identity={})
        refused.append(progress.done)

    train(LineTask(), config(steps=10), tmp_path / "run", identity={}, on_progress=second)
    assert refused == [0, 5, 10]
    assert [step for step, *_ in logged(tmp_path / "run")] == [5, 10]


KILLED_RUN = """
import sys, time
from pathlib import Path
from tests.training.test_trainer import LineTask, config
from explorer.training.trainer import train
train(LineTask(), config(steps=4000), Path(sys.argv[1]), identity={}, on_progress=lambda progress: time.sleep(0.02))
"""


def train_until(folder, stop):
    seen = []
    train(
        LineTask(),
        config(steps=4000),
        folder,
        identity={},
        on_progress=lambda progress: seen.append(progress.done),
        should_stop=lambda: bool(seen) and seen[-1] >= stop,
    )


def test_a_killed_run_goes_on_bit_identically(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", KILLED_RUN, str(tmp_path / "killed")], env=environment)
    state = tmp_path / "killed" / STATE_NAME
    while not state.exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    survived = finished_steps(tmp_path / "killed")
    assert 0 < survived < 4000
    # The same run, cut short by hand at a length that finishes quickly, from both starting points.
    stop = survived + 200
    ends = []
    for folder in (tmp_path / "killed", tmp_path / "fresh"):
        train_until(folder, stop)
        ends.append((finished_steps(folder), (folder / STATE_NAME).read_bytes()))
    assert ends[0][0] == ends[1][0]
    assert ends[0][1] == ends[1][1]


def test_the_denoiser_goes_on_bit_identically(tmp_path, micro_world, micro_recipe):
    pairs, encoders = PairSet.load(micro_world.run / "sets" / "base"), micro_world.encoders()
    settings = replace(micro_recipe.base[0], steps=6, warmup_steps=1, precision="bf16", ema_decay=0.9, log_every=1)

    def run(folder, stop=None):
        seen = []
        unet = build_denoiser(micro_recipe.denoiser_channels, encoders.text_encoder.config.hidden_size, seed=0)
        return train_denoiser(
            unet, build_scheduler(), pairs, encoders, settings, tmp_path / folder, start="seed 0",
            on_progress=lambda progress: seen.append(progress.done), should_stop=lambda: seen[-1] == stop,
        )  # fmt: skip

    whole, cut = run("whole"), run("cut", stop=3)
    assert finished_steps(tmp_path / "cut") == 3
    resumed = run("cut")
    assert torch.equal(weights(whole), weights(resumed))
    assert not torch.equal(weights(whole), weights(cut))
    assert (tmp_path / "whole" / STATE_NAME).read_bytes() == (tmp_path / "cut" / STATE_NAME).read_bytes()


@pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="torch.compile needs a C++ compiler: none found"
)
@pytest.mark.slow
def test_a_compiled_run_trains_and_goes_on(tmp_path):
    compiled = config(steps=20, fused=True)
    whole = train(LineTask(), compiled, tmp_path / "whole", identity={})
    plain = train(LineTask(), config(steps=20), tmp_path / "plain", identity={})
    assert torch.allclose(weights(whole), weights(plain), atol=1e-5)
    assert not torch.equal(weights(whole), weights(LineFit()))
    done = []
    train(LineTask(), compiled, tmp_path / "cut", identity={}, on_progress=lambda progress: done.append(progress.done),
          should_stop=lambda: done[-1:] == [10])  # fmt: skip
    assert finished_steps(tmp_path / "cut") == 10
    resumed = train(LineTask(), compiled, tmp_path / "cut", identity={})
    assert torch.equal(weights(whole), weights(resumed))


def logged(folder):
    lines = [json.loads(line) for line in (folder / METRICS_NAME).read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines]


@pytest.mark.parametrize(("killed_at", "survived"), [(5, 0), (25, 20)])
def test_steps_taken_again_are_logged_once(tmp_path, killed_at, survived):
    def die(progress):
        if progress.done == killed_at:
            raise KeyboardInterrupt

    train(LineTask(), config(), tmp_path / "whole", identity={})
    cut = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        train(LineTask(), config(), cut, identity={}, on_progress=die)
    assert (logged(cut)[-1][0], finished_steps(cut)) == (killed_at, survived)
    with open(cut / METRICS_NAME, "a") as stream:
        stream.write('{"step": 10, "lo')  # as kill -9 leaves a line
    train(LineTask(), config(), cut, identity={})
    assert logged(cut) == logged(tmp_path / "whole")
    train(LineTask(), config(), cut, identity={})
    assert logged(cut) == logged(tmp_path / "whole"), "a finished run keeps its lines"
    assert sorted(path.name for path in cut.iterdir()) == [METRICS_NAME, SETTINGS_NAME, STATE_NAME]


def test_another_runs_folder_is_refused_by_name(tmp_path):
    train(LineTask(), config(steps=5), tmp_path, identity={"data": "a"})
    with pytest.raises(ValueError, match=r"other settings \(data, learning_rate\)"):
        train(LineTask(), config(steps=5, learning_rate=0.01), tmp_path, identity={"data": "b"})


def test_a_diverging_loss_is_reported_with_its_step(tmp_path):
    task = LineTask()
    task.y = task.y.clone()
    task.y[:] = float("inf")
    with pytest.raises(ValueError, match=r"the loss is (inf|nan) at step 5"):
        train(task, config(), tmp_path, identity={})


@pytest.mark.parametrize(("broken_step", "log_every"), [(13, 50), (20, 10)])
def test_weights_that_are_not_finite_never_replace_good_ones(tmp_path, broken_step, log_every):
    settings, task, taken = config(log_every=log_every), LineTask(), []

    def break_gradient(gradient):
        taken.append(gradient)
        return gradient * float("nan") if len(taken) >= broken_step else gradient

    task.network.line.weight.register_hook(break_gradient)
    with pytest.raises(ValueError, match=r"line\.weight has NaN or infinite values at step 20: expected finite"):
        train(task, settings, tmp_path / "broken", identity={})
    assert finished_steps(tmp_path / "broken") == 10
    whole = train(LineTask(), settings, tmp_path / "whole", identity={})
    resumed = train(LineTask(), settings, tmp_path / "broken", identity={})
    assert torch.equal(weights(whole), weights(resumed))


def test_micro_batches_make_the_same_step(tmp_path):
    whole = train(LineTask(), config(), tmp_path / "whole", identity={})
    split = train(LineTask(), config(accumulation=4), tmp_path / "split", identity={})
    assert torch.allclose(weights(whole), weights(split), atol=1e-5)
    assert not torch.equal(weights(whole), weights(LineFit()))


def test_a_run_from_before_a_setting_existed_goes_on(tmp_path):
    train(LineTask(), config(steps=5), tmp_path, identity={})
    settings = json.loads((tmp_path / SETTINGS_NAME).read_text())
    older = {name: value for name, value in settings["config"].items() if name not in ("accumulation", "fused")}
    (tmp_path / SETTINGS_NAME).write_text(json.dumps({**settings, "config": older}))
    train(LineTask(), config(steps=5), tmp_path, identity={})
    with pytest.raises(ValueError, match=r"other settings \(accumulation\)"):
        train(LineTask(), config(steps=5, accumulation=2), tmp_path, identity={})


def test_recomputed_activations_change_nothing(tmp_path, make_unet):
    class Squares(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.unet = make_unet(seed=3)

        def forward(self, batch):
            time = torch.zeros(len(batch["x"]), dtype=torch.long)
            return self.unet(batch["x"], time, encoder_hidden_states=batch["text"]).sample.square().mean()

    class Task:
        def __init__(self):
            self.network = Squares()

        def __len__(self):
            return 2

        def batch(self, indices, generator):
            shape = (len(indices), 4, 16, 16)
            return {"x": torch.randn(shape, generator=generator), "text": torch.ones(len(indices), 3, 32)}

    settings = {"steps": 2, "batch_size": 2, "ema_decay": 0.0, "learning_rate": 1e-3}
    plain = train(Task(), config(**settings), tmp_path / "plain", identity={})
    recomputed = train(Task(), config(**settings, gradient_checkpointing=True), tmp_path / "other", identity={})
    assert torch.allclose(weights(plain), weights(recomputed), atol=1e-6)
    assert not recomputed.unet.is_gradient_checkpointing
    with pytest.raises(ValueError, match="nothing in LineFit supports it"):
        train(LineTask(), config(gradient_checkpointing=True), tmp_path / "line", identity={})


@pytest.mark.parametrize(
    ("changes", "device", "message"),
    [
        ({}, "tpu", "device is 'tpu': expected 'cpu' or 'cuda'"),
        ({"precision": "fp16"}, "cpu", "precision is 'fp16' on the CPU"),
        ({"graphed": True}, "cpu", "graphed is True for 1 processes on cpu: expected one on cuda"),
    ],
)
def test_what_the_machine_cannot_do_is_refused(tmp_path, changes, device, message):
    with pytest.raises(ValueError, match=message):
        train(LineTask(), config(**changes), tmp_path, identity={}, device=device)


@pytest.mark.parametrize("other", [{"fused": True}, {"gradient_checkpointing": True}, {"accumulation": 2}])
def test_what_a_recorded_step_cannot_do_is_refused(other):
    with pytest.raises(ValueError, match="graphed is True: expected accumulation 1, and neither fused nor"):
        config(graphed=True, **other)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_never_replaced_by_the_cpu(tmp_path):
    with pytest.raises(ValueError, match="device is 'cuda', but PyTorch finds no such GPU"):
        train(LineTask(), config(), tmp_path, identity={}, device="cuda")


def test_a_batch_that_cannot_be_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="batch_size is 8: expected a multiple of 3"):
        train(LineTask(), config(accumulation=3), tmp_path, identity={})


def test_every_epoch_sees_every_sample_once():
    settings = config(batch_size=7)
    seen = torch.cat([step_indices(step, 21, settings) for step in range(6)])
    assert sorted(seen[:21].tolist()) == list(range(21))
    assert sorted(seen[21:].tolist()) == list(range(21))
    assert seen[:21].tolist() != seen[21:].tolist()


def test_the_learning_rate_warms_up_and_decays():
    settings = config(steps=100, warmup_steps=10)
    factors = [learning_rate_factor(step, settings) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[9] == pytest.approx(1)
    assert factors[-1] == pytest.approx(0.02, abs=0.002)
    assert learning_rate_factor(99, config(schedule="constant")) == 1


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_the_stable_schedule_decays_over_its_share_of_the_steps(share):
    stable = config(steps=100, warmup_steps=10, schedule="stable-decay", decay_share=share)
    factors = [learning_rate_factor(step, stable) for step in range(100)]
    decaying = round(share * 100)
    assert set(factors[10 : 100 - decaying]) == {1.0}
    assert factors[-decaying:] == sorted(factors[-decaying:], reverse=True)
    assert factors[-1] == pytest.approx(0.02 + 0.98 / decaying)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps is 0: expected at least 1"),
        ({"accumulation": 0}, "accumulation is 0: expected at least 1"),
        ({"schedule": "linear"}, "schedule is 'linear'"),
        ({"precision": "fp8"}, "precision is 'fp8'"),
        ({"decay_share": 0.0}, "decay_share is 0.0"),
        ({"decay_share": 1.5}, "decay_share is 1.5"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)
