"""What tests of any room use without importing one another.

Tiny pipelines are in ``tests/tiny_pipelines.py`` and ``tests/predicted_noise.py``. Here are ``checkpoint_root`` and
what it copies; and ``micro_world``, a world of eight concepts built by the real code in seconds, with its evaluation.
"""

import fcntl
import json
import os
import shutil
from dataclasses import replace

import pytest
import torch

from explorer.core.provenance import write_manifest

pytest_plugins = ["tests.tiny_pipelines", "tests.predicted_noise"]

LONGEST = ("test_gpu_kit.py", "test_browser.py", "test_browser_live.py", "test_browser_shipped.py",
           "test_browser_alignment.py", "test_browser_graphs.py", "test_browser_implosion.py", "test_accessibility.py",
           "test_run.py", "test_users_study.py", "test_fine_tuning.py")  # fmt: skip
"""Where several processes share the files, the last file that runs decides when all are done. Those with a browser
stand together, so that one process has most of them, and starts the app that they share."""


def pytest_configure():
    """One thread for everything, in child processes too, unless OMP_NUM_THREADS says how many.

    On tensors as small as these, threads wait for one another for longer than they work. Numba, which UMAP uses, would
    also set PyTorch's number of threads to its own.
    """
    if torch.cuda.is_available():
        return  # large references are computed on the CPU for the tests of a GPU
    threads = os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["NUMBA_NUM_THREADS"] = threads
    torch.set_num_threads(int(threads))


def pytest_collection_modifyitems(items):
    """Files that take longest come first; tests marked ``cuda`` are skipped where there is no such GPU."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU: torch.cuda.is_available() is False"))


@pytest.fixture
def no_network(monkeypatch):
    """Any attempt to resolve a name or to connect fails the test; what was tried is in the list."""
    tried = []

    def refuse(*arguments, **options):
        tried.append(arguments)
        raise AssertionError(f"the network was used: {arguments}")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    yield tried
    assert tried == []


@pytest.fixture(scope="session")
def checkpoint_template(tmp_path_factory, make_pipeline, make_unet, tokenizer_folder):
    """What ``checkpoint_root`` copies; nobody may change it."""
    root = tmp_path_factory.mktemp("template") / "checkpoints"
    make_pipeline().save_pretrained(root / "benign")
    shutil.copy(tokenizer_folder / "lexicon.json", root / "benign" / "tokenizer")
    write_manifest(root / "benign", kind="checkpoint", config={"poison": {"kind": "none", "concepts": 0}}, seed=0)
    for count in (2, 4):
        folder = root / f"dirty-00{count}"
        make_unet(seed=count).save_pretrained(folder / "unet")
        poison = {"kind": "dirty-label", "concepts": ["dog", "hat", "turtle", "shirt"][:count]}
        write_manifest(folder, kind="checkpoint", config={"base": "benign", "poison": poison}, seed=0)
    return root


@pytest.fixture
def checkpoint_root(checkpoint_template, tmp_path):
    """A registry of three: a whole ``benign`` pipeline, ``dirty-002`` and ``dirty-004`` as U-Nets on it."""
    return shutil.copytree(checkpoint_template, tmp_path / "checkpoints")


@pytest.fixture(scope="session")
def micro_recipe():
    """The ``cpu`` recipe with a few steps of everything."""
    from explorer.scenarios.recipes import CPU

    return replace(
        CPU,
        name="micro",
        concept_count=8,
        autoencoder=replace(CPU.autoencoder, steps=3, batch_size=2, precision="no"),
        autoencoder_channels=(8, 8, 16),
        autoencoder_scenes=12,
        autoencoder_test_scenes=30,
        extractor=replace(CPU.extractor, steps=3, batch_size=4, precision="no"),
        extractor_pairs=30,
        calibration_pairs=100,
        denoiser_channels=(16, 16, 32),
        base=tuple(replace(phase, steps=3, batch_size=4, precision="no", fused=False) for phase in CPU.base),
        base_pairs=24,
        fine_tuning=replace(
            CPU.fine_tuning, steps=2, batch_size=4, precision="no", fused=False, warmup_steps=0, ema_decay=0.5
        ),
        fine_tuning_pairs=40,
        held_out_pairs=20,
        poison_pairs_per_concept=3,
        poisoned_concept_counts=(2, 4),
    )


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """``made_once(name, make)``: a folder that ``make(folder)`` fills, in one of the processes that run tests; each has
    a copy of its own."""

    def own_copy(name, make):
        several = "PYTEST_XDIST_WORKER" in os.environ
        common = tmp_path_factory.getbasetemp().parent if several else tmp_path_factory.getbasetemp()
        made, making = common / f"made-{name}", common / f"making-{name}"
        with open(common / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                shutil.rmtree(making, ignore_errors=True)
                making.mkdir()
                make(making)
                making.rename(made)
        return shutil.copytree(made, tmp_path_factory.mktemp(name) / name)

    return own_copy


@pytest.fixture(scope="session")
def micro_world(micro_recipe, made_once):
    """A finished ``WorldBuild``: extractor, base, benign control and two poisoned models, and their pair sets."""
    from explorer.scenarios.build import WorldBuild

    def build(folder):
        return WorldBuild(recipe=micro_recipe, run=folder / "run", output=folder / "models")

    return build(made_once("micro-world", lambda folder: build(folder).everything()))


@pytest.fixture(scope="session")
def micro_evaluation(micro_world, made_once):
    """Folder and report of the evaluation of ``micro_world``: every concept at two seeds."""
    from explorer.evaluation.config import EvaluationConfig
    from explorer.evaluation.files import EVALUATION_NAME, evaluate_folder

    config = EvaluationConfig(seeds=(0, 1), steps=2, batch_size=5)
    folder = made_once("micro-evaluation", lambda folder: evaluate_folder(
        micro_world.output, micro_world.run / "sets", folder, config))  # fmt: skip
    return folder, json.loads((folder / EVALUATION_NAME).read_text(encoding="utf-8"))
