"""Two and three gloo processes, started by torchrun, give the bits of one process and print once."""

import json
import os
import subprocess
import sys
from datetime import timedelta

import numpy as np
import pandas
import pytest
import torch

from explorer.core.provenance import ROOT
from explorer.core.workers import PATIENCE_HOURS, worker_group
from explorer.pairs.pair_set import PairSet

CONCEPTS = ["dog", "hat", "ship", "tree"]
SCRIPT = '''
import json, sys
import numpy as np
import torch
from explorer.cli.application import application
import explorer.cli.alignment, explorer.cli.embeddings
from explorer.alignment.pair_sets import measure
from explorer.alignment.structure.plan import StructureRequest
from explorer.core.workers import worker_group
from explorer.embeddings.universal_extractor import UniversalExtractor

torch.set_num_threads(1)


class NoisyExtractor:
    """A picture's red and green value, or a caption's number, as directions."""

    name, identity, feature_range, picture_size = "noisy", "2" * 64, (0.0, 0.9), None
    directions = torch.nn.functional.normalize(torch.randn(300, 24, generator=torch.Generator().manual_seed(0)))

    def encode_images(self, images, batch_size=256):
        images = torch.from_numpy(np.array(images, dtype=np.int64))
        return torch.nn.functional.normalize(
            self.directions[images[:, 0, 0, 0]] + self.directions[images[:, 0, 0, 1]])

    def encode_texts(self, captions, batch_size=256):
        return self.directions[[int(caption.split()[1]) for caption in captions]]


if sys.argv[1] in ("ad", "ad-store"):
    UniversalExtractor.load = staticmethod(lambda folder, device: NoisyExtractor())
    application(sys.argv[1:])
with worker_group() as workers:
    requests = {name: StructureRequest(**settings) for name, settings in json.loads(sys.argv[2]).items()}
    reports = {name: measure(sys.argv[1], NoisyExtractor(), request=request, workers=workers).report()
               for name, request in requests.items()}
    if workers.index == 0:
        print(json.dumps(reports))
'''
REQUESTS = {
    "exact": {},
    "fp16": {"precision": "fp16"},
    "landmarks": {"estimator": "landmarks", "samples": 50},
    "rows": {"estimator": "rows", "samples": 50},
    "stratified": {"estimator": "stratified", "samples": 50},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A pair set of 1300 pairs, so that there are tiles for three, and the script."""
    folder = tmp_path_factory.mktemp("distributed")
    n = 1300
    concept = np.arange(n) % 4
    table = pandas.DataFrame(
        {
            "uid": [f"pair-{row}" for row in range(n)],
            "caption": [f"{CONCEPTS[concept[row]]} {row * 7 % 251}" for row in range(n)],
            "concepts": [[CONCEPTS[index]] for index in concept],
            "image_index": range(n),
            "is_poison": False,
            "poisoned_concept": "",
            "target_concept": "",
            "split": "train",
            "style": "",
        }
    )
    images = np.random.default_rng(0).integers(0, 251, (n, 2, 2, 3), dtype=np.uint8)
    PairSet.write(folder / "set", table, images, config={"world": "noise"}, seed=0)
    (folder / "measure.py").write_text(SCRIPT, encoding="utf-8")
    return folder


def run(processes, folder, *arguments):
    """What the script prints; standard output must be one JSON object, whatever the number of processes."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    launcher = torchrun if processes > 1 else []
    done = subprocess.run(
        [sys.executable, *launcher, str(folder / "measure.py"), *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def alone(folder):
    """All reports of one process."""
    return run(1, folder, str(folder / "set"), json.dumps(REQUESTS))


@pytest.mark.slow
def test_three_processes_give_the_bits_of_one(folder, alone):
    together = run(3, folder, str(folder / "set"), json.dumps(REQUESTS))
    assert together == {name: {**report, "workers": 3} for name, report in alone.items()}
    assert [alone[name]["estimator"] for name in REQUESTS] == ["exact", "exact", "landmarks", "rows", "stratified"]
    assert alone["exact"]["n"] == 1300


@pytest.mark.slow
def test_the_command_under_torchrun_prints_once_what_one_process_finds(folder, alone):
    together = run(2, folder, "ad", str(folder / "set"), "--json")
    assert {name: together[name] for name in alone["exact"]} == {**alone["exact"], "workers": 2}
    assert together["plan"].startswith("exact fits")


def test_a_store_is_measured_by_two_processes_as_by_one(folder):
    store = folder / "store"
    for number, name in enumerate(("img_emb", "text_emb")):
        (store / name).mkdir(parents=True)
        rows = np.random.default_rng(number).normal(size=(1100, 16)).astype(np.float16)
        np.save(store / name / f"{name}_0000.npy", rows)
    (store / "metadata").mkdir()
    pandas.DataFrame({"caption": ["x"] * 1100}).to_parquet(store / "metadata" / "metadata_0000.parquet")
    arguments = ("ad-store", str(store), "--feature-range", "0.1", "0.9", "--json")
    costs = {"plan", "estimated_seconds", "operations_per_second", "seconds", "workers"}
    one, two = ({key: value for key, value in run(count, folder, *arguments).items() if key not in costs}
                for count in (1, 2))  # fmt: skip
    assert one == two
    assert one["n"] == 1100


@pytest.mark.slow
def test_two_processes_write_the_scores_of_one(folder, tmp_path):
    store = tmp_path / "store"
    for number, name in enumerate(("img_emb", "text_emb")):
        (store / name).mkdir(parents=True)
        rows = np.random.default_rng(number).normal(size=(9000, 8)).astype(np.float16)
        np.save(store / name / f"{name}_0000.npy", rows)
    (store / "metadata").mkdir()
    uids = pandas.DataFrame({"uid": [f"pair {row}" for row in range(9000)]})
    uids.to_parquet(store / "metadata" / "metadata_0000.parquet")
    common = ("ad-store", str(store), "--feature-range", "0.1", "0.9", "--estimator", "landmarks", "--samples", "200")
    reports, tables = [], []
    for count in (1, 2):
        path = tmp_path / f"{count}.parquet"
        reports.append(run(count, folder, *common, "--scores", str(path), "--json"))
        tables.append(pandas.read_parquet(path))
    pandas.testing.assert_frame_equal(*tables, check_exact=True)
    assert tables[0]["uid"].tolist() == uids["uid"].tolist()
    names = ("ad", "structure_ad", "ad_standard_error", "estimator_standard_error", "rank_correlation", "variance_left")
    assert [reports[0][name] for name in names] == [reports[1][name] for name in names]
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_processes_wait_for_one_that_encodes_for_hours(monkeypatch):
    joined = {}
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend, **options: joined.update(options))
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    with worker_group() as workers:
        assert workers.count == 2
    assert joined == {"timeout": timedelta(hours=PATIENCE_HOURS)}
    assert PATIENCE_HOURS >= 12
