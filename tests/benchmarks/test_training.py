import copy
from dataclasses import replace

import pytest
import torch

from explorer.benchmarks.plain_training import PlainTraining
from explorer.benchmarks.training import (
    CONCEPTS,
    OURS,
    PLAIN,
    benchmark_training,
    build_pipeline,
    find_model,
    markdown,
)
from explorer.checkpoints.architectures import SD15_UNET, count_parameters
from explorer.iconworld.autoencoder import build_autoencoder
from explorer.iconworld.denoiser import build_denoiser
from explorer.training.loss import DiffusionLoss


@pytest.fixture(scope="module")
def tiny():
    """The quarter-size SD 1.5, smaller still."""
    model = find_model("sd15-quarter")
    narrow = {"block_out_channels": (16, 16, 16, 16), "norm_num_groups": 8}
    return replace(
        model,
        resolution=64,
        unet=model.unet | narrow | {"cross_attention_dim": 24, "attention_head_dim": 2, "layers_per_block": 1},
        autoencoder=model.autoencoder | narrow | {"layers_per_block": 1},
        text={"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "context": 28},
    )


@pytest.fixture(scope="module")
def pair_set(tmp_path_factory):
    from explorer.iconworld.world import World, generate_pair_set

    return generate_pair_set(World(concept_count=CONCEPTS), tmp_path_factory.mktemp("pairs") / "set", train=4, seed=0)


def test_both_loops_are_timed_on_the_same_work(tiny):
    report = benchmark_training(tiny, batch_size=2, steps=1, warmup=1, rounds=2, pairs=4)
    assert set(report["samples_per_second"]) == {PLAIN, OURS}
    assert all(found["median"] > 0 for found in report["samples_per_second"].values())
    low, middle, high = (report["speedup"][name] for name in ("lower_quartile", "median", "upper_quartile"))
    assert 0 < low <= middle <= high
    assert report["encoding_seconds_once"] > 0
    table = markdown(report)
    assert f"| {PLAIN} | {report['samples_per_second'][PLAIN]['median']:.2f} |" in table
    assert "goal 1.3" in table


@pytest.mark.parametrize("fused", [False, True])
def test_only_our_step_is_compiled_and_only_if_asked(tiny, monkeypatch, fused):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda module: compiled.append(module) or module)
    settings = {"batch_size": 2, "steps": 1, "warmup": 1, "rounds": 1, "pairs": 4}
    report = benchmark_training(tiny, fused=fused, **settings)
    assert len(compiled) == report["fused"] == fused
    assert ("ours compiled" in markdown(report)) == fused


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_plain_loop_minimises_our_loss(tiny, pair_set, prediction_type):
    pipeline = build_pipeline(replace(tiny, prediction_type=prediction_type))
    ours = DiffusionLoss(copy.deepcopy(pipeline.unet), pipeline.scheduler)
    before = copy.deepcopy(pipeline.unet.state_dict())
    plain = PlainTraining(pipeline, pair_set, resolution=64, batch_size=2, learning_rate=1e-3)
    batch = next(plain.batches)
    torch.manual_seed(5)
    with torch.no_grad():
        latents = pipeline.vae.encode(batch["pixel_values"]).latent_dist.sample() * pipeline.vae.config.scaling_factor
        noise = torch.randn_like(latents)
        timesteps = torch.randint(0, 1000, (2,))
        text = pipeline.text_encoder(batch["input_ids"])[0]
        expected = ours({"latents": latents, "noise": noise, "timesteps": timesteps, "text": text}).item()
    torch.manual_seed(5)
    assert plain._step(batch) == pytest.approx(expected, rel=1e-4)
    changed = [name for name, value in pipeline.unet.state_dict().items() if not torch.equal(value, before[name])]
    assert len(changed) > 0.9 * len(before)
    assert plain.run(2) > 0


def test_the_models_are_the_ones_they_are_named_after():
    iconworld, quarter = find_model("iconworld"), find_model("sd15-quarter")
    assert count_parameters(iconworld.unet) == build_denoiser((64, 128, 192), 128).num_parameters()
    shipped = build_autoencoder().config
    for name, value in iconworld.autoencoder.items():
        assert tuple(shipped[name]) == value if isinstance(value, tuple) else shipped[name] == value
    assert tuple(4 * width for width in quarter.unet["block_out_channels"]) == SD15_UNET["block_out_channels"]
    assert 4 * quarter.unet["cross_attention_dim"] == SD15_UNET["cross_attention_dim"]


def test_impossible_settings_are_refused(tiny):
    with pytest.raises(ValueError, match="rounds is 0: expected at least 1"):
        benchmark_training(tiny, rounds=0)
    with pytest.raises(ValueError, match="pairs is 10: expected a multiple of batch_size, 4"):
        benchmark_training(tiny, batch_size=4, pairs=10)
    with pytest.raises(ValueError, match="model 'sd3' is unknown: expected one of"):
        find_model("sd3")
