import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch.nn import functional

from explorer.training.loss import DiffusionLoss


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
