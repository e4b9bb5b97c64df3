import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch.nn import functional

from explorer.iconworld.denoiser import build_scheduler
from explorer.training.loss import DiffusionLoss, loss_weight


def batch(pipeline, width):
    generator = torch.Generator().manual_seed(0)
    return {
        "latents": torch.randn(3, 4, 16, 16, generator=generator).half(),
        "noise": torch.randn(3, 4, 16, 16, generator=generator),
        "timesteps": torch.tensor([0, 500, 999]),
        "text": torch.randn(3, 16, width, generator=generator).half(),
    }


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_loss_is_the_one_of_diffusers_own_training_script(make_pipeline, prediction_type):
    pipeline = make_pipeline()
    scheduler = DDIMScheduler(prediction_type=prediction_type, beta_schedule="scaled_linear", clip_sample=False)
    data = batch(pipeline, 32)
    reference = DDPMScheduler.from_config(scheduler.config)
    latents = data["latents"].float()
    noisy = reference.add_noise(latents, data["noise"], data["timesteps"])
    target = data["noise"]
    if prediction_type == "v_prediction":
        target = reference.get_velocity(latents, data["noise"], data["timesteps"])
    with torch.no_grad():
        predicted = pipeline.unet(noisy, data["timesteps"], data["text"].float()).sample
        found = DiffusionLoss(pipeline.unet, scheduler)(data)
    assert found.item() == pytest.approx(functional.mse_loss(predicted, target).item(), rel=1e-5)


def test_sdxl_hears_its_pooled_text_and_sizes(make_xl_pipeline):
    pipeline = make_xl_pipeline()
    loss = DiffusionLoss(pipeline.unet, pipeline.scheduler)
    data = batch(pipeline, 64) | {"pooled": torch.ones(3, 32).half(), "time_ids": torch.full((3, 6), 64.0)}
    with torch.no_grad():
        found = [loss(data), loss(data | {"pooled": torch.zeros(3, 32)}), loss(data | {"time_ids": torch.zeros(3, 6)})]
    assert len({round(value.item(), 7) for value in found}) == 3


def test_another_prediction_type_is_refused(make_pipeline):
    scheduler = DDIMScheduler(prediction_type="sample")
    with pytest.raises(ValueError, match="its scheduler predicts 'sample': expected epsilon or v_prediction"):
        DiffusionLoss(make_pipeline().unet, scheduler)


def test_the_losses_of_a_perfect_network_are_zero_up_to_pure_noise(make_unet, monkeypatch):
    unet, scheduler = make_unet(), build_scheduler()
    data = batch(None, 32) | {"timesteps": torch.tensor([0, 300, 999])}
    latents = data["latents"].float()

    def perfect(noisy, timesteps, **conditions):
        assert torch.allclose(noisy, scheduler.add_noise(latents, data["noise"], timesteps), atol=1e-5)
        return (scheduler.get_velocity(latents, data["noise"], timesteps),)

    monkeypatch.setattr(unet, "forward", perfect)
    assert DiffusionLoss(unet, scheduler, weighting="min-snr")(data).item() == pytest.approx(0, abs=1e-9)


def test_min_snr_weighs_pure_noise_by_one_and_less_the_less_noise_there_is():
    signal = torch.tensor([0.0, 0.5, 0.8, 0.95])
    assert loss_weight("min-snr", "v_prediction", signal).tolist() == pytest.approx([1.0, 1.0, 1.0, 0.25])
    published = [1.0, 1.0, 1.0, 5 / 19]  # min(SNR, 5) / SNR, at an SNR of 0, 1, 4, 19
    assert loss_weight("min-snr", "epsilon", torch.tensor([0.0, 0.5, 0.8, 0.95])).tolist() == pytest.approx(published)
    assert loss_weight("uniform", "epsilon", signal).tolist() == [1.0] * 4


def test_the_loss_is_the_weighted_mean_of_the_errors(make_pipeline):
    pipeline = make_pipeline()
    data = batch(pipeline, 32)
    with torch.no_grad():
        loss = DiffusionLoss(pipeline.unet, pipeline.scheduler, weighting="min-snr")
        weights = loss_weight("min-snr", "v_prediction", loss.alphas_cumprod[data["timesteps"]])
        assert weights[0] < 0.1
        assert loss(data).item() == pytest.approx((weights * loss.errors(data)).mean().item(), rel=1e-6)
    with pytest.raises(ValueError, match="weighting is 'snr': expected one of uniform, min-snr"):
        DiffusionLoss(pipeline.unet, pipeline.scheduler, weighting="snr")
