"""Two processes share one training run: the same result as one process's, also after both were killed."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from explorer.core.provenance import ROOT
from explorer.training.state import STATE_NAME, finished_steps
from explorer.training.trainer import train
from tests.training.test_trainer import LineTask, config, train_until, weights

pytestmark = pytest.mark.slow

TO_BE_KILLED = """
import sys, time
from pathlib import Path
from explorer.training.trainer import train
from tests.training.test_trainer import LineTask, config
train(LineTask(), config(steps=4000), Path(sys.argv[1]), identity={}, on_progress=lambda progress: time.sleep(0.02))
"""

FINISHING = """
import os, sys
from pathlib import Path
from safetensors.torch import save_file
from explorer.training.trainer import train
from tests.training.test_trainer import LineTask, config, train_until
folder, stop = Path(sys.argv[1]), int(sys.argv[2])
for name, changes in (("shared", {}), ("accumulated", {"accumulation": 2})):
    trained = train(LineTask(), config(**changes), folder / name, identity={})
    save_file(trained.state_dict(), folder / f"{name}-{os.environ['RANK']}.safetensors")
train_until(folder / "killed", stop)
try:
    train(LineTask(), config(batch_size=7), folder / "odd", identity={})
except ValueError as error:
    print(error)
"""


def start(script, *arguments):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(2):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
        settings = {name: str(value) for name, value in place.items()} | {"MASTER_ADDR": "127.0.0.1"}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", script, *map(str, arguments)],
                env={**os.environ, **settings, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    return processes


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two processes that was killed and resumed, and two that were not; with where the first was stopped."""
    folder = tmp_path_factory.mktemp("distributed")
    processes = start(TO_BE_KILLED, folder / "killed")
    state = folder / "killed" / STATE_NAME
    while not state.exists() and all(process.poll() is None for process in processes):
        time.sleep(0.05)
    for process in processes:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    survived = finished_steps(folder / "killed")
    assert 0 < survived < 4000
    stop = survived + 30
    outputs = [process.communicate()[0] for process in start(FINISHING, folder, stop)]
    return folder, stop, outputs


def test_a_killed_run_of_two_processes_goes_on(finished, tmp_path):
    folder, stop, _ = finished
    train_until(tmp_path, stop)
    resumed, whole = load_file(folder / "killed" / STATE_NAME), load_file(tmp_path / STATE_NAME)
    assert finished_steps(folder / "killed") == finished_steps(tmp_path)
    assert resumed.keys() == whole.keys()
    for name, value in whole.items():
        assert torch.allclose(resumed[name], value, atol=1e-5), name


@pytest.mark.parametrize("name", ["shared", "accumulated"])
def test_two_processes_train_as_one(finished, tmp_path, name):
    folder, _, _ = finished
    alone = train(LineTask(), config(), tmp_path, identity={})
    first, second = (load_file(folder / f"{name}-{rank}.safetensors") for rank in range(2))
    for key, value in alone.state_dict().items():
        assert torch.equal(first[key], second[key])
        assert torch.allclose(first[key], value, atol=2e-6)
    assert not torch.allclose(weights(alone), weights(LineTask().network), atol=0.1)


def test_a_batch_that_two_processes_cannot_share_is_refused(finished):
    assert all("batch_size is 7: expected a multiple of 2 (2 processes" in output for output in finished[2])
