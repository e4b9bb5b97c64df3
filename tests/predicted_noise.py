"""``family``: every kind of pipeline in turn, with what its network predicts worked out by hand."""

from types import SimpleNamespace

import pytest
import torch


def epsilon_pipeline(make_pipeline):
    from diffusers import DDIMScheduler

    pipeline = make_pipeline()
    pipeline.scheduler = DDIMScheduler(prediction_type="epsilon", beta_schedule="scaled_linear")
    return pipeline


@pytest.fixture(scope="session", params=["sd1", "sd2", "sdxl", "sd3", "flux"])
def family(request, make_pipeline, make_xl_pipeline, make_sd3_pipeline, make_flux_pipeline):
    """Every family in turn: ``name``, ``pipeline`` and ``noise(noisy, timestep, text, position=None, row=None,
    t5_row=None)``, the noise that one prediction amounts to, with a row of the dictionaries in the place of a token.
    The networks are called plainly. ``sd1`` predicts noise, ``sd2`` the velocity."""
    make = {"sd1": lambda: epsilon_pipeline(make_pipeline), "sd2": make_pipeline, "sdxl": make_xl_pipeline,
            "sd3": make_sd3_pipeline, "flux": make_flux_pipeline}  # fmt: skip
    calls = {"sd1": of_unet, "sd2": of_unet, "sdxl": of_xl, "sd3": of_sd3, "flux": of_flux}
    pipeline, call = make[request.param](), calls[request.param]

    def noise(noisy, timestep, *text):
        return noise_of(pipeline, request.param, noisy, call(pipeline, noisy, timestep, *text), timestep)

    return SimpleNamespace(name=request.param, pipeline=pipeline, noise=noise)


def token_ids(tokenizer, length, text, position, row):
    ids = torch.tensor([tokenizer(text, padding="max_length", max_length=length, truncation=True).input_ids])
    if position is not None:
        ids[0, position] = row
    return ids


def clip_ids(pipeline, name, text, position, row):
    tokenizer = getattr(pipeline, name)
    return token_ids(tokenizer, tokenizer.model_max_length, text, position, row)


def t5_ids(tokenizer, length, text, position, row):
    return token_ids(tokenizer, length, text, None if position is None else position - 1, row)


def of_unet(pipeline, noisy, timestep, text, position=None, row=None, t5_row=None):
    states = pipeline.text_encoder(clip_ids(pipeline, "tokenizer", text, position, row))[0]
    return pipeline.unet(noisy, timestep, encoder_hidden_states=states)[0]


def of_xl(pipeline, noisy, timestep, text, position=None, row=None, t5_row=None):
    one, two = (
        encoder(clip_ids(pipeline, "tokenizer", text, position, row), output_hidden_states=True)
        for encoder in (pipeline.text_encoder, pipeline.text_encoder_2)
    )
    states, pooled = torch.cat([one.hidden_states[-2], two.hidden_states[-2]], dim=-1), two.text_embeds
    if text == "":
        states, pooled = torch.zeros_like(states), torch.zeros_like(pooled)
    side = noisy.shape[-1] * pipeline.vae_scale_factor
    sizes = torch.tensor([[side, side, 0, 0, side, side]], dtype=torch.float32)
    added = {"text_embeds": pooled, "time_ids": sizes}
    return pipeline.unet(noisy, timestep, encoder_hidden_states=states, added_cond_kwargs=added)[0]


def of_sd3(pipeline, noisy, timestep, text, position=None, row=None, t5_row=None):
    clips = [
        encoder(clip_ids(pipeline, "tokenizer", text, position, row), output_hidden_states=True)
        for encoder in (pipeline.text_encoder, pipeline.text_encoder_2)
    ]
    t5 = pipeline.text_encoder_3(t5_ids(pipeline.tokenizer_3, 256, text, position, t5_row))[0]
    side_by_side = torch.cat([clip.hidden_states[-2] for clip in clips], dim=-1)
    padded = torch.nn.functional.pad(side_by_side, (0, t5.shape[-1] - side_by_side.shape[-1]))
    return pipeline.transformer(
        noisy, encoder_hidden_states=torch.cat([padded, t5], dim=1),
        pooled_projections=torch.cat([clip.text_embeds for clip in clips], dim=-1), timestep=torch.tensor([timestep]),
    )[0]  # fmt: skip


def of_flux(pipeline, noisy, timestep, text, position=None, row=None, t5_row=None):
    pooled = pipeline.text_encoder(clip_ids(pipeline, "tokenizer", text, position, row)).pooler_output
    t5 = pipeline.text_encoder_2(t5_ids(pipeline.tokenizer_2, 512, text, position, t5_row))[0]
    channels, height, width = noisy.shape[1:]
    tokens = (
        noisy[0].reshape(channels, height // 2, 2, width // 2, 2).permute(1, 3, 0, 2, 4).reshape(1, -1, 4 * channels)
    )
    places = torch.tensor([[0, y, x] for y in range(height // 2) for x in range(width // 2)], dtype=torch.float32)
    predicted = pipeline.transformer(
        tokens, encoder_hidden_states=t5, pooled_projections=pooled, timestep=torch.tensor([timestep / 1000]),
        guidance=torch.tensor([3.5]), img_ids=places, txt_ids=torch.zeros(512, 3),
    )[0]  # fmt: skip
    parts = predicted.reshape(height // 2, width // 2, channels, 2, 2).permute(2, 0, 3, 1, 4)
    return parts.reshape(1, channels, height, width)


def noise_of(pipeline, name, noisy, prediction, timestep):
    """The noise that a prediction amounts to, by the definition of what it predicts."""
    if name in ("sd3", "flux"):  # noisy = (1 - s) x + s noise, prediction = noise - x
        return noisy + (1 - timestep / 1000) * prediction
    if name != "sd2":
        return prediction
    signal = pipeline.scheduler.alphas_cumprod[round(timestep)]
    return signal.sqrt() * prediction + (1 - signal).sqrt() * noisy
