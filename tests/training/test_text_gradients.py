"""Projected gradients of single pairs, beside whole ones by autograd."""

import numpy as np
import torch

from explorer.attention.unet import cross_attention_layers
from explorer.training.loss import DiffusionLoss
from explorer.training.text_gradients import text_gradients

CAPTIONS = ["a photo of dog", "a hat", "a shirt"]


def whole_gradients(pipeline, latents, seed, draws):
    """Of every pair alone, in all key and value weights of the text, by plain differentiation."""
    loss = DiffusionLoss(pipeline.unet, pipeline.scheduler)
    weights = [
        part.weight for layer in cross_attention_layers(pipeline.unet).values() for part in (layer.to_k, layer.to_v)
    ]
    noise = torch.randn((draws, *latents.shape[1:]), generator=torch.Generator().manual_seed(seed))
    rows = []
    for latent, caption in zip(torch.from_numpy(latents), CAPTIONS, strict=True):
        text = pipeline.encode_prompt([caption], "cpu", 1, False)[0].detach()
        mean = 0
        for draw in range(draws):
            timestep = torch.tensor([int((draw + 0.5) / draws * loss.timesteps)])
            batch = {"latents": latent[None], "text": text, "noise": noise[draw][None], "timesteps": timestep}
            mean = mean + loss.errors(batch).sum() / draws
        rows.append(torch.cat([each.flatten() for each in torch.autograd.grad(mean, weights)]))
    return torch.stack(rows).detach()


def test_inner_products_are_those_of_the_whole_gradients(make_pipeline):
    pipeline = make_pipeline()
    latents = np.random.default_rng(0).standard_normal((3, 4, 16, 16), dtype=np.float32)
    whole = whole_gradients(pipeline, latents, seed=1, draws=2)
    expected = (whole @ whole.T).numpy()
    drawn = [text_gradients(pipeline, latents, CAPTIONS, seed=1, draws=2, side=512) for _ in range(2)]
    assert np.array_equal(*drawn)
    products = drawn[0] @ drawn[0].T
    assert np.abs(products - expected).max() < 0.1 * np.abs(expected).max()
    assert np.corrcoef(products.ravel(), expected.ravel())[0, 1] > 0.99
    alone = text_gradients(pipeline, latents[1:2], CAPTIONS[1:2], seed=1, draws=2, side=512)
    assert np.allclose(alone[0], drawn[0][1], atol=1e-5 * np.abs(alone).max())
