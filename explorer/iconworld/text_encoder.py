"""The extractor's text tower as the ``CLIPTextModel`` of a Stable Diffusion pipeline."""

from __future__ import annotations

from typing import Any

import torch

BLOCK_NAMES = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def convert_text_tower(clip: Any, clip_config: dict[str, Any], end_token: int) -> Any:
    """A ``transformers.CLIPTextModel`` with the weights of an ``open_clip.CLIP`` text tower.

    Its ``last_hidden_state`` equals open_clip's states after ``ln_final``; the text projection stays behind, as in
    Stable Diffusion.
    """
    from transformers import CLIPTextConfig, CLIPTextModel

    text = clip_config["text_cfg"]
    config = CLIPTextConfig(
        vocab_size=text["vocab_size"],
        hidden_size=text["width"],
        intermediate_size=text["width"] * 4,
        projection_dim=clip_config["embed_dim"],
        num_hidden_layers=text["layers"],
        num_attention_heads=text["heads"],
        max_position_embeddings=text["context_length"],
        hidden_act="quick_gelu" if clip_config["quick_gelu"] else "gelu",
        bos_token_id=end_token - 1,
        eos_token_id=end_token,
        pad_token_id=end_token,
    )
    model = CLIPTextModel(config)
    wanted = model.state_dict()
    # transformers 4 keeps the tower under "text_model."; transformers 5 does not.
    prefix = "text_model." if any(name.startswith("text_model.") for name in wanted) else ""
    converted = {f"{prefix}{name}": value for name, value in _converted(clip.state_dict()).items()}
    buffers = {name: value for name, value in wanted.items() if name.endswith("position_ids")}
    model.load_state_dict({**converted, **buffers})
    return model.eval()


def _converted(source: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    result = {
        "embeddings.token_embedding.weight": source["token_embedding.weight"],
        "embeddings.position_embedding.weight": source["positional_embedding"],
        "final_layer_norm.weight": source["ln_final.weight"],
        "final_layer_norm.bias": source["ln_final.bias"],
    }
    for name, value in source.items():
        if not name.startswith("transformer.resblocks."):
            continue
        layer, _, rest = name.removeprefix("transformer.resblocks.").partition(".")
        target = f"encoder.layers.{layer}."
        if rest.startswith("attn.in_proj_"):
            kind = rest.removeprefix("attn.in_proj_")
            for projection, part in zip("qkv", value.chunk(3), strict=True):
                result[f"{target}self_attn.{projection}_proj.{kind}"] = part.clone()
            continue
        module, _, kind = rest.rpartition(".")
        result[f"{target}{BLOCK_NAMES[module]}.{kind}"] = value
    return result
