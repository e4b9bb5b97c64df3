"""Training on a GPU: near the CPU's losses in every precision, and resumed to the weights of an uninterrupted run."""

import json

import numpy as np
import pandas
import pytest
import torch
from safetensors.torch import load_file

from explorer.checkpoints.pipelines import load_pipeline
from explorer.checkpoints.registry import read_checkpoint, validate
from explorer.pairs.pair_set import PairSet
from explorer.training.diffusion_task import DiffusionTask
from explorer.training.encoded_pairs import encode_pair_set
from explorer.training.fine_tune import fine_tune, train_unet
from explorer.training.recipes import SD15, SD21, SDXL, override
from explorer.training.sample_loss import sample_losses
from explorer.training.state import STATE_NAME, finished_steps
from explorer.training.trainer import METRICS_NAME, train
from tests.training.test_fine_tune import SMALL, places, unet_weights
from tests.training.test_trainer import LineTask, config, weights

CHANGES = {
    "fp32": {},
    "bf16": {"precision": "bf16"},
    "fp16 with loss scaling": {"precision": "fp16"},
    "accumulation": {"accumulation": 2},
    "moving average": {"ema_decay": 0.5},
    "recomputed activations": {"gradient_checkpointing": True},
    "compiled": {"precision": "bf16", "fused": True},
    "recorded": {"graphed": True},
    "recorded in bf16 and averaged": {"graphed": True, "precision": "bf16", "ema_decay": 0.5},
    "recorded in fp16 with loss scaling": {"graphed": True, "precision": "fp16"},
}
CLOSE = {"no": 0.01, "fp16": 0.02, "bf16": 0.05}
"""Of a loss against the CPU's in fp32, relative: rounding, and the four steps it grows over."""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Six pictures of noise with captions that the tiny tokenizer knows."""
    images = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
    captions = ["a photo of dog", "a hat", "dog and hat", "a turtle", "a shirt", "a photo of hat"]
    table = pandas.DataFrame(
        {
            "uid": [f"pair-{row}" for row in range(6)],
            "caption": captions,
            "concepts": [["dog"]] * 6,
            "image_index": range(6),
            "is_poison": False,
            "poisoned_concept": "",
            "target_concept": "",
            "split": "train",
        }
    )
    return PairSet.write(tmp_path_factory.mktemp("set") / "pairs", table, images, config={}, seed=0)


@pytest.fixture
def deterministic(monkeypatch):
    """Kernels that add in one order, where there are such; without them a GPU's sums differ in their last bits."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def losses(run):
    return [json.loads(line)["loss"] for line in (run / METRICS_NAME).read_text().splitlines()]


def trained(pipeline, encoded, run, device, should_stop=None, **changes):
    recipe, options = override(SD15, **SMALL | changes), {"device": device, "should_stop": should_stop}
    return train_unet(pipeline.unet, pipeline.scheduler, encoded, recipe, run, start="test", **options)


@pytest.mark.cuda
@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_losses_follow_the_cpus(make_pipeline, pairs, tmp_path, changes):
    found = {}
    for device, settings in (("cpu", {}), ("cuda", changes)):
        pipeline = make_pipeline()
        encoded = encode_pair_set(pipeline, pairs, 32, tmp_path / f"cache of {device}", device=device)
        trained(pipeline, encoded, tmp_path / device, device, **settings)
        found[device] = losses(tmp_path / device)
    assert len(found["cuda"]) == SMALL["steps"]
    assert found["cuda"] == pytest.approx(found["cpu"], rel=CLOSE[changes.get("precision", "no")])


@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_a_stopped_run_goes_on_to_the_same_bits(
    make_pipeline,
    pairs,
    tmp_path,
    deterministic,
    precision,
):
    make_pipeline().save_pretrained(tmp_path / "base")
    recipe, on_gpu = override(SD15, **SMALL | {"ema_decay": 0.5, "precision": precision}), {"device": "cuda"}
    fine_tune(tmp_path / "base", pairs, recipe, tmp_path / "whole", **on_gpu, **places(tmp_path / "a"))
    stopped = {"should_stop": lambda: True, **places(tmp_path / "b")}
    assert fine_tune(tmp_path / "base", pairs, recipe, tmp_path / "cut", **on_gpu, **stopped) is None
    assert finished_steps(tmp_path / "b" / "run") == 1
    fine_tune(tmp_path / "base", pairs, recipe, tmp_path / "cut", **on_gpu, **places(tmp_path / "b"))
    whole, cut = unet_weights(tmp_path / "whole"), unet_weights(tmp_path / "cut")
    differing = {name: (value - cut[name]).abs().max().item() for name, value in whole.items()
                 if not torch.equal(value, cut[name])}  # fmt: skip
    assert differing == {}
    assert validate(read_checkpoint(tmp_path / "cut"), thorough=True).problem is None


@pytest.mark.cuda
def test_without_deterministic_kernels_a_resumed_run_is_as_near_as_a_repeated_one(
    make_pipeline,
    pairs,
    tmp_path,
):
    """Atomic additions of a backward pass may add in another order: the last bits differ, whether resumed or not."""
    start = torch.cat([value.flatten() for value in make_pipeline().unet.state_dict().values()])
    found = {}
    for name in ("whole", "again", "cut"):
        pipeline = make_pipeline()
        encoded = encode_pair_set(pipeline, pairs, 32, tmp_path / "cache", device="cuda")
        if name == "cut":
            trained(pipeline, encoded, tmp_path / name, "cuda", should_stop=lambda: True)
            assert finished_steps(tmp_path / name) == 1
            pipeline = make_pipeline()
        unet = trained(pipeline, encoded, tmp_path / name, "cuda")
        found[name] = torch.cat([value.flatten() for value in unet.state_dict().values()])
    moved = (found["whole"] - start).abs().mean()
    for name in ("again", "cut"):
        off = (found[name] - found["whole"]).abs().mean()
        assert off <= 0.05 * moved, f"{name} is {off:.3g} away, training moves the weights by {moved:.3g}"


@pytest.mark.cuda
def test_loss_scaling_skips_steps_that_overflow_and_is_resumed(tmp_path, deterministic):
    settings = config(precision="fp16", steps=40, checkpoint_every=10, learning_rate=2.0)

    def task():
        steep = LineTask()
        steep.y *= 50  # at the first scale of 65536 the gradient of a prediction is beyond fp16
        return steep

    whole = train(task(), settings, tmp_path / "whole", identity={}, device="cuda")
    steps = iter(range(1, 41))
    train(task(), settings, tmp_path / "cut", identity={}, device="cuda", should_stop=lambda: next(steps) == 15)
    assert finished_steps(tmp_path / "cut") == 15
    resumed = train(task(), settings, tmp_path / "cut", identity={}, device="cuda")
    assert torch.isfinite(weights(whole)).all()
    assert torch.equal(weights(whole), weights(resumed))
    assert 0 < load_file(tmp_path / "whole" / STATE_NAME)["scaler.scale"].item() < 65536
    found = losses(tmp_path / "whole")
    assert found[-1] < found[0]


@pytest.mark.cuda
@pytest.mark.parametrize("family", ["sd2", "sdxl"])
def test_other_families_train_by_their_own_recipes(
    make_pipeline,
    make_xl_pipeline,
    pairs,
    tmp_path,
    family,
):
    pipeline = make_pipeline(use_linear_projection=True) if family == "sd2" else make_xl_pipeline()
    pipeline.save_pretrained(tmp_path / family)
    small = override({"sd2": SD21, "sdxl": SDXL}[family], **SMALL | {"resolution": 32, "steps": 2, "precision": "bf16"})
    fine_tune(tmp_path / family, pairs, small, tmp_path / "tuned", device="cuda", **places(tmp_path / "x"))
    assert all(torch.isfinite(value).all() for value in load_pipeline(tmp_path / "tuned").unet.state_dict().values())


@pytest.mark.cuda
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_text_encoders_inside_the_step_are_trained(
    make_pipeline,
    make_xl_pipeline,
    pairs,
    tmp_path,
    family,
):
    pipeline = make_pipeline() if family == "sd1" else make_xl_pipeline()
    encoded = encode_pair_set(pipeline, pairs, 32, tmp_path / "cache", device="cuda", live=True)
    task = DiffusionTask(pipeline.unet, pipeline.scheduler, encoded, caption_dropout=0.3)
    before = weights(pipeline.text_encoder).clone()
    settings = config(steps=2, batch_size=4, precision="bf16", ema_decay=0.0)
    network = train(task, settings, tmp_path / "run", identity=task.identity, device="cuda")
    after = weights(network.text_encoders.encoders["text_encoder"])
    assert after.device.type == "cpu"
    assert torch.isfinite(after).all()
    assert not torch.equal(after, before)


@pytest.mark.cuda
def test_losses_of_single_pairs_are_near_the_cpus(make_pipeline, pairs):
    images, captions = pairs.read_images(slice(0, 6)), pairs.table["caption"].tolist()
    expected = sample_losses(make_pipeline(), images, captions, seed=3, draws=2)
    found = sample_losses(make_pipeline().to("cuda"), images, captions, seed=3, draws=2)
    assert found == pytest.approx(expected, rel=0.01)
