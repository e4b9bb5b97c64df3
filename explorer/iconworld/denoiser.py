"""The conditional U-Net and the noise schedule of the small Stable Diffusion."""

from __future__ import annotations

from typing import Any

import torch

CROSS_ATTENTION_BLOCKS = ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D")
TRAIN_TIMESTEPS = 1000
MATRIX_ATTENTION_POSITIONS = 16 * 16
"""Latent positions up to which training multiplies attention matrices out."""


def build_denoiser(channels: tuple[int, int, int], text_width: int, seed: int = 0, *, side: int = 16) -> Any:
    """A freshly initialised ``UNet2DConditionModel`` for latents of ``side`` x ``side``, cross-attention there and at
    half of it.

    Self-attention at the full side is left out (``only_cross_attention``): it costs most and word maps do not need it.
    """
    from diffusers import UNet2DConditionModel

    torch.manual_seed(seed)
    return UNet2DConditionModel(
        sample_size=side,
        in_channels=4,
        out_channels=4,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=CROSS_ATTENTION_BLOCKS,
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=text_width,
        # In UNet2DConditionModel this is, in spite of its name, the number of heads.
        attention_head_dim=4,
        only_cross_attention=(True, False, False),
        norm_num_groups=16,
    )


def build_scheduler() -> Any:
    """DDIM with v-prediction and a terminal signal-to-noise ratio of zero (Lin et al. 2023), so that the first
    sampling step starts from the pure noise that training saw last."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=TRAIN_TIMESTEPS,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        # Without effect under trailing spacing, but the stock pipeline rewrites any other value with a warning.
        steps_offset=1,
    )


def use_training_attention(unet: Any) -> None:
    """Matrix-product attention where pictures are small: the fused kernel of PyTorch's CPU backend has a very slow bf16
    backward pass. Larger ones keep the fused kernel, because whole matrices of probabilities cost more than it does."""
    from diffusers.models.attention_processor import AttnProcessor

    side = unet.config.sample_size
    height, width = (side, side) if isinstance(side, int) else side
    if height * width <= MATRIX_ATTENTION_POSITIONS:
        unet.set_attn_processor(AttnProcessor())


def use_fused_attention(unet: Any) -> None:
    """The fused kernel, as diffusers builds a U-Net; its own ``set_default_attn_processor`` takes the other one."""
    from diffusers.models.attention_processor import AttnProcessor2_0

    unet.set_attn_processor(AttnProcessor2_0())
