"""One process of a launcher: NCCL's collectives leave the bits of a process alone, and training goes its usual way."""

import json
import os
import socket
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from explorer.core.provenance import ROOT

MEASURING = """
import json, sys
import torch
from torch import distributed
from explorer.alignment.structure.estimators import landmark_estimate
from explorer.alignment.structure.tiles import structure_and_centred_row_sums
from explorer.core.share import ALONE, Share
from explorer.core.workers import Workers, worker_group

device = sys.argv[1]
with worker_group(device) as workers:
    distributed.init_process_group({"cuda": "nccl", "cpu": "gloo"}[device])
    # worker_group needs no collectives for one process: here they are made to run.
    joined = Share(index=0, count=1, add_up=Workers._add_up)
    rows = [torch.nn.functional.normalize(torch.randn(900, width, generator=torch.Generator().manual_seed(width)) + 0.3)
            .to(workers.device) for width in (48, 65)]
    sums = [structure_and_centred_row_sums(*rows, share=share) for share in (joined, ALONE)]
    estimates = [landmark_estimate(*rows, 60, seed=1, share=share) for share in (joined, ALONE)]
    told = {"estimator": "landmarks", "samples": 60, "reason": "\\u00e4"}
    heard = workers._broadcast(told)
    workers.first_alone(lambda: distributed.barrier())
    print(json.dumps({
        "device": workers.device,
        "backend": distributed.get_backend(),
        "sums": [torch.equal(ours, alone) for ours, alone in zip(*sums)],
        "estimate": torch.equal(estimates[0].structure_distance, estimates[1].structure_distance),
        "heard": heard == told,
    }))
    distributed.destroy_process_group()
"""

TRAINING = """
import json, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from explorer.training.trainer import train
from tests.training.test_trainer import LineTask, config

folder, device = Path(sys.argv[1]), sys.argv[2]
settings = {"whole": {}, "accumulated": {"accumulation": 2}, "bf16": {"precision": "bf16"}}
for name, changes in settings.items():
    trained = train(LineTask(), config(**changes), folder / name, identity={}, device=device)
    save_file(trained.state_dict(), folder / f"{name}.safetensors")
print(json.dumps({"joined": torch.distributed.is_initialized() and torch.distributed.get_backend()}))
"""


def place():
    """What torchrun tells a process that is its only one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "LOCAL_WORLD_SIZE": 1, "MASTER_PORT": port}
    return {name: str(value) for name, value in told.items()} | {"MASTER_ADDR": "127.0.0.1"}


def run(script, *arguments, launched=True):
    """The JSON that a script prints last."""
    environment = {**os.environ, **(place() if launched else {}), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True, text=True, cwd=ROOT, env=environment, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.cuda
def test_nccl_adds_up_to_the_bits_of_a_process_alone():
    found = run(MEASURING, "cuda")
    assert found == {
        "device": "cuda:0", "backend": "nccl", "sums": [True, True], "estimate": True, "heard": True
    }  # fmt: skip


@pytest.mark.cuda
def test_training_as_the_only_process_of_a_launcher(tmp_path):
    folders = {"launched": tmp_path / "launched", "alone": tmp_path / "alone"}
    for name, folder in folders.items():
        folder.mkdir()
        found = run(TRAINING, folder, "cuda", launched=name == "launched")
        assert found == {"joined": "nccl" if name == "launched" else False}
    for name in ("whole", "accumulated", "bf16"):
        ours, alone = (load_file(folder / f"{name}.safetensors") for folder in folders.values())
        assert all(torch.allclose(ours[part], value, atol=1e-5) for part, value in alone.items()), name
