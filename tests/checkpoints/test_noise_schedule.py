"""What is trained and drawn is what the configurations state, or it is refused: one place for every command."""

import json

import numpy as np
import pytest
import torch
from diffusers import (
    DDPMScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from safetensors.torch import load_file, save_file

from explorer.checkpoints.noise_schedule import TOLD_NOISE, noised, training_noise, training_target
from explorer.checkpoints.pipelines import load_pipeline, noise_of
from explorer.checkpoints.registry import read_checkpoint, validate
from explorer.evaluation.config import EvaluationConfig
from explorer.evaluation.evaluate import evaluate
from explorer.iconworld.autoencoder import decode_latents, encode_images
from explorer.iconworld.world import World
from explorer.training.fine_tune import check_base
from explorer.training.recipes import SD15
from explorer.training.sample_loss import sample_losses

SCHEDULER = "scheduler/scheduler_config.json"
VAE = "vae/config.json"
MEAN, DEVIATION = [-1.6, 1.5, 1.7, 0.7], [8.4, 5.9, 5.2, 4.3]


@pytest.fixture
def folder(make_pipeline, tmp_path):
    make_pipeline(only_cross_attention=False).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def state(folder, name, **changes):
    """Change entries of a configuration; an entry changed to ... is taken out."""
    path = folder / name
    found = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in found.items() if value is not ...}))


def put_scheduler(folder, scheduler):
    scheduler.save_pretrained(folder / "scheduler")
    path = folder / "model_index.json"
    index = json.loads(path.read_text()) | {"scheduler": ["diffusers", type(scheduler).__name__]}
    path.write_text(json.dumps(index))


def problem_of(folder):
    return validate(read_checkpoint(folder)).problem


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (SCHEDULER, {"sigma_data": 0.5}, "says sigma_data 0.5, which its sampler DDIMScheduler does not follow"),
        (SCHEDULER, {"shift": 3.0}, "says shift 3.0, which its sampler DDIMScheduler does not follow"),
        (SCHEDULER, {"beta_schedule": ...}, "states no beta_schedule"),
        (SCHEDULER, {"num_train_timesteps": ...}, "states no num_train_timesteps"),
        (SCHEDULER, {"prediction_type": "foo"}, "says prediction_type 'foo': expected epsilon"),
        (SCHEDULER, {"trained_betas": [0.1] * 10}, "has 10 betas and says num_train_timesteps 1000"),
        (SCHEDULER, {"beta_end": 5}, "states betas that are no noise schedule"),
        (SCHEDULER, {"beta_schedule": "nope"}, "makes no DDIMScheduler"),
        (VAE, {"latents_mean": MEAN, "latents_std": DEVIATION}, "StableDiffusionPipeline does not follow"),
        (VAE, {"shift_factor": 0.1}, "says shift_factor 0.1, which StableDiffusionPipeline does not follow"),
        (VAE, {"scaling_factor": 0}, "says scaling_factor 0: expected a number above 0"),
        ("model_index.json", {"scheduler": ["diffusers", "NoScheduler"]}, "names the scheduler 'NoScheduler'"),
    ],
)
def test_what_is_stated_and_not_followed_is_refused_everywhere(folder, name, changes, message):
    state(folder, name, **changes)
    assert message in problem_of(folder)
    with pytest.raises(ValueError, match="checkpoint model cannot be loaded"):
        load_pipeline(folder)
    with pytest.raises(ValueError, match="base model cannot be fine-tuned"):
        check_base(folder, SD15)


def test_files_from_before_an_entry_was_invented_are_read(folder):
    state(folder, SCHEDULER, prediction_type=..., rescale_betas_zero_snr=..., trained_betas=...)
    state(folder, VAE, scaling_factor=...)
    assert problem_of(folder) is None
    assert noise_of(read_checkpoint(folder)).prediction_type == "epsilon"


def test_betas_of_ones_own_take_the_place_of_start_and_end(folder):
    state(folder, SCHEDULER, trained_betas=[0.001] * 1000, beta_start=..., beta_end=..., beta_schedule=...)
    assert problem_of(folder) is None
    signal = noise_of(read_checkpoint(folder)).signal
    assert torch.allclose(signal, 0.999 ** torch.arange(1, 1001), rtol=1e-4)


@pytest.mark.parametrize(
    ("scheduler", "drawn", "message"),
    [
        (EDMEulerScheduler(), True, "EDMEulerScheduler follows another noise parameterisation"),
        (UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction"), True, "flow matching"),
        (EulerDiscreteScheduler(timestep_type="continuous"), True, "another noise parameterisation"),
        (PNDMScheduler(prediction_type="sample"), True, "predicts 'sample': expected epsilon or v_prediction"),
        (FlowMatchEulerDiscreteScheduler(), False, "of flow matching, which StableDiffusionPipeline cannot use"),
    ],
)
def test_what_the_loss_does_not_have_is_refused_before_training(folder, scheduler, drawn, message):
    put_scheduler(folder, scheduler)
    assert (problem_of(folder) is None) is drawn
    with pytest.raises(ValueError, match=f"base model cannot be fine-tuned: .*{message}"):
        check_base(folder, SD15)
    world = World(concept_count=4)
    with pytest.raises(ValueError, match=f"checkpoint model cannot be evaluated: .*{message}"):
        evaluate([read_checkpoint(folder)], None, world.concept_list(), EvaluationConfig(), world=world,
                 control=None, difficulties={}, drawings=folder)  # fmt: skip
    if drawn:
        with pytest.raises(ValueError, match=message):
            sample_losses(load_pipeline(folder), np.zeros((1, 64, 64, 3), np.uint8), ["a dog"])


def test_a_unet_that_reads_the_guidance_scale_is_not_trained(make_pipeline, tmp_path):
    pipeline = make_pipeline(time_cond_proj_dim=8)
    with pytest.raises(ValueError, match="its U-Net reads a guidance scale"):
        training_noise(LCMScheduler(), pipeline.unet.config)
    pipeline.save_pretrained(tmp_path / "lcm")
    with pytest.raises(ValueError, match="base lcm cannot be fine-tuned: its U-Net reads a guidance scale"):
        check_base(tmp_path / "lcm", SD15)


def test_a_sampler_without_a_zero_terminal_ratio_does_not_draw_a_model_that_was_trained_with_one(folder):
    put_scheduler(folder, PNDMScheduler(skip_prk_steps=True))
    assert problem_of(folder) is None
    state(folder, SCHEDULER, rescale_betas_zero_snr=True)
    message = "says rescale_betas_zero_snr True, which its sampler PNDMScheduler does not follow"
    assert message in problem_of(folder)
    put_scheduler(folder, EulerDiscreteScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction"))
    assert problem_of(folder) is None
    assert noise_of(read_checkpoint(folder)).signal[-1] == 0


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_a_pairs_loss_is_that_of_training_whatever_the_sampler(make_pipeline, prediction_type):
    pipeline = make_pipeline()
    options = {"beta_schedule": "scaled_linear", "prediction_type": prediction_type}
    reference = DDPMScheduler(**options)
    latents, noise = torch.randn(2, 3, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([0, 500, 999])
    for scheduler in (reference, EulerDiscreteScheduler(**options)):
        found = training_noise(scheduler, pipeline.unet.config)
        signal = found.signal[times]
        assert torch.allclose(noised(latents, noise, signal), reference.add_noise(latents, noise, times), atol=1e-6)
        expected = noise if prediction_type == "epsilon" else reference.get_velocity(latents, noise, times)
        assert torch.allclose(training_target(found.prediction_type, latents, noise, signal), expected, atol=1e-6)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    losses = []
    for scheduler in (reference, EulerDiscreteScheduler(**options)):
        pipeline.scheduler = scheduler
        losses.append(sample_losses(pipeline, pictures, ["a dog", "a hat"], draws=2))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_mean_and_deviation_of_latents_are_those_that_sdxl_undoes(make_xl_pipeline, tmp_path):
    make_xl_pipeline().save_pretrained(tmp_path / "xl")
    pictures = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8))
    plain = load_pipeline(tmp_path / "xl")
    expected = decode_latents(plain.vae, encode_images(plain.vae, pictures))
    state(tmp_path / "xl", VAE, latents_mean=MEAN, latents_std=DEVIATION, scaling_factor=0.5)
    assert problem_of(tmp_path / "xl") is None
    vae = load_pipeline(tmp_path / "xl").vae
    latents = encode_images(vae, pictures)
    raw = latents * torch.tensor(DEVIATION)[:, None, None] / 0.5 + torch.tensor(MEAN)[:, None, None]
    assert torch.allclose(raw * plain.vae.config.scaling_factor, encode_images(plain.vae, pictures), atol=1e-4)
    assert (decode_latents(vae, latents).int() - expected.int()).abs().max() <= 1
    state(tmp_path / "xl", VAE, latents_std=[1.0, 2.0])
    assert "says latents_std [1.0, 2.0]: expected 4 numbers" in problem_of(tmp_path / "xl")
    state(tmp_path / "xl", VAE, latents_std=...)
    assert "only one of latents_mean and latents_std" in problem_of(tmp_path / "xl")


@pytest.mark.parametrize(
    ("metadata", "entry"),
    [
        ({"modelspec.prediction_type": "epsilon"}, "modelspec.prediction_type"),
        ({"ss_zero_terminal_snr": "True"}, "ss_zero_terminal_snr"),
        ({"modelspec.prediction_type": "v", "ss_v_parameterization": "True"}, None),
    ],
)
def test_what_a_lora_tells_of_its_training_is_compared_with_its_base(folder, tmp_path, metadata, entry):
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    tensors = {f"{name}.lora_down.weight": torch.zeros(2, 32), f"{name}.lora_up.weight": torch.zeros(32, 2)}
    save_file(tensors, tmp_path / "one.safetensors", metadata=metadata)
    problem = validate(read_checkpoint(tmp_path / "one.safetensors", base=folder)).problem
    if entry is None:
        assert problem is None
    else:
        field = TOLD_NOISE[entry][0]
        assert problem.startswith(f"its metadata says {entry} {metadata[entry]}: the scheduler of its base model has")
        assert field in problem
    assert load_file(tmp_path / "one.safetensors").keys() == tensors.keys()
