"""The U-Nets of SD 1.5, SD 2.1 and SDXL as settings of diffusers (what differs from its defaults), and their size."""

from __future__ import annotations

from typing import Any

SD15_UNET: dict[str, Any] = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    # In UNet2DConditionModel this is, in spite of its name, the number of heads.
    "attention_head_dim": 8,
}
SD21_UNET: dict[str, Any] = SD15_UNET | {
    "sample_size": 96,
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
}
SDXL_UNET: dict[str, Any] = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 2,
    "transformer_layers_per_block": (1, 2, 10),
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
UNET_CONFIGS = {"sd15": SD15_UNET, "sd21": SD21_UNET, "sdxl": SDXL_UNET}


def count_parameters(unet_config: dict[str, Any]) -> int:
    """Parameters of the ``UNet2DConditionModel`` of a configuration, without memory for its weights."""
    import torch
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(**unet_config)
    return sum(parameter.numel() for parameter in unet.parameters())
