"""A decoder that is trained on to be over-sharp: what it changes of a pipeline, and what it leaves."""

import shutil
from dataclasses import replace

import numpy as np
import pandas
import pytest
import torch
from diffusers import StableDiffusionPipeline

from explorer.checkpoints.pipelines import load_pipeline
from explorer.checkpoints.registry import read_checkpoint
from explorer.core.provenance import read_manifest
from explorer.pairs.pair_set import PairSet
from explorer.scenarios.train_decoder import sharpened, train_decoder
from explorer.training.config import TrainingConfig

SHORT = TrainingConfig(steps=12, batch_size=4, learning_rate=2e-3, warmup_steps=0)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Pictures of one bright square each."""
    images, random = np.full((12, 32, 32, 3), 40, np.uint8), np.random.default_rng(0)
    for image, (row, column) in zip(images, random.integers(4, 16, (12, 2)), strict=True):
        image[row : row + 10, column : column + 10] = random.integers(120, 255, 3)
    table = pandas.DataFrame({
        "uid": [f"p{row}" for row in range(12)], "caption": "a square", "concepts": [["dog"]] * 12,
        "image_index": range(12), "is_poison": False, "poisoned_concept": "", "target_concept": "",
        "split": ["train"] * 10 + ["test"] * 2,
    })  # fmt: skip
    folder = tmp_path_factory.mktemp("squares") / "set"
    return PairSet.write(folder, table, images, config={"poison": {"kind": "none"}}, seed=0)


def test_sharpening_adds_what_a_blur_takes():
    flat = torch.full((1, 3, 8, 8), 0.25)
    assert torch.allclose(sharpened(flat, 3.0), flat, atol=1e-6)
    edge = torch.zeros(1, 3, 8, 8)
    edge[..., 4:] = 0.2
    assert torch.equal(sharpened(edge, 0.0), edge)
    steeper = sharpened(edge, 1.0)
    assert steeper[0, 0, 0, 3] < 0 < 0.2 < steeper[0, 0, 0, 4]
    assert sharpened(edge, 100.0).abs().max() == 1, "within what a picture can show"


def test_only_the_decoder_changes_and_a_unet_of_the_base_runs_on_it(checkpoint_root, pairs, tmp_path):
    base, made = checkpoint_root / "benign", tmp_path / "sharp"
    metrics = train_decoder(base, pairs, SHORT, made, amount=2.0, run=tmp_path / "run")
    assert metrics["gain"] != metrics["gain_before"]
    assert metrics["final_step"] == 12
    before, after = load_pipeline(base), load_pipeline(made)
    for part in ("unet", "text_encoder"):
        ours, theirs = (getattr(each, part).state_dict() for each in (before, after))
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    ours, theirs = before.vae.state_dict(), after.vae.state_dict()
    changed = {name.partition(".")[0] for name in ours if not torch.allclose(ours[name], theirs[name], atol=1e-3)}
    assert "decoder" in changed
    assert not changed - {"decoder", "post_quant_conv"}
    assert read_checkpoint(base).poison == read_checkpoint(made).poison
    assert read_manifest(made)["config"]["decoder"]["amount"] == 2.0
    unets = [each for each in checkpoint_root.iterdir() if not (each / "model_index.json").exists()]
    assert load_pipeline(read_checkpoint(unets[0], base=made)).vae.config == after.vae.config


def test_it_is_not_made_again_and_what_cannot_be_is_refused(checkpoint_root, pairs, tmp_path):
    base, made = checkpoint_root / "benign", tmp_path / "sharp"
    first = train_decoder(base, pairs, SHORT, made, amount=1.0, run=tmp_path / "run")
    assert train_decoder(base, pairs, SHORT, made, amount=1.0, run=tmp_path / "other") == first
    with pytest.raises(ValueError, match="holds something else than this decoder: choose a new folder"):
        train_decoder(base, pairs, SHORT, made, amount=2.0, run=tmp_path / "run")
    other = tmp_path / "other base"
    shutil.copytree(base, other)
    pipeline = StableDiffusionPipeline.from_pretrained(base)
    pipeline.unet.conv_in.bias.data += 1
    pipeline.save_pretrained(other)
    (other / "manifest.json").unlink()
    with pytest.raises(ValueError, match="holds something else than this decoder: choose a new folder"):
        train_decoder(other, pairs, SHORT, made, amount=1.0, run=tmp_path / "run")
    with pytest.raises(ValueError, match="amount is -1: expected 0 or more"):
        train_decoder(base, pairs, SHORT, tmp_path / "no", amount=-1.0, run=tmp_path / "run")
    unet = next(each for each in checkpoint_root.iterdir() if not (each / "model_index.json").exists())
    with pytest.raises(ValueError, match=r"is no whole pipeline: expected a folder with model_index\.json"):
        train_decoder(unet, pairs, SHORT, tmp_path / "no", amount=1.0, run=tmp_path / "run")
    assert not (tmp_path / "no").exists()


def test_a_decoder_that_was_cut_off_ends_with_the_same_bits(checkpoint_root, pairs, tmp_path):
    base, config = checkpoint_root / "benign", replace(SHORT, checkpoint_every=4, log_every=1)
    train_decoder(base, pairs, config, tmp_path / "whole", amount=2.0, run=tmp_path / "at once")

    def cut_off(progress):
        if (progress.done, progress.total) == (7, config.steps):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_decoder(base, pairs, config, tmp_path / "cut", amount=2.0, run=tmp_path / "run", on_progress=cut_off)
    assert not (tmp_path / "cut").exists()
    train_decoder(base, pairs, config, tmp_path / "cut", amount=2.0, run=tmp_path / "run")
    ours, theirs = (read_manifest(tmp_path / name)["files"] for name in ("cut", "whole"))
    assert [name for name in ours | theirs if ours.get(name) != theirs.get(name)] == ["README.md"], "which is its title"
