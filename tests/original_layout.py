"""A tiny pipeline's weights in the original LDM layout, written independently of what reads it."""

import re

import torch
from safetensors.torch import save_file

RESNET = (
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("time_emb_proj", "emb_layers.1"),
    ("conv_shortcut", "skip_connection"),
)
UNET_ENDS = (
    ("time_embedding.linear_1", "time_embed.0"),
    ("time_embedding.linear_2", "time_embed.2"),
    ("add_embedding.linear_1", "label_emb.0.0"),
    ("add_embedding.linear_2", "label_emb.0.2"),
    ("conv_in", "input_blocks.0.0"),
    ("conv_norm_out", "out.0"),
    ("conv_out", "out.2"),
)
VAE_ATTENTION = (("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out"))
OPEN_CLIP = (("layer_norm1", "ln_1"), ("layer_norm2", "ln_2"), ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj"))


def replaced(name, pairs):
    for new, old in pairs:
        name = name.replace(new, old)
    return name


def unet_name(name, depth, has_attention):
    """The original name of a U-Net tensor; ``depth`` is the number of layers a block."""
    for new, old in UNET_ENDS:
        if name.startswith(f"{new}."):
            return name.replace(new, old, 1)
    if found := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", name):
        kind, index, rest = found.groups()
        place = 1 if kind == "attentions" else 2 * int(index)
        return f"middle_block.{place}.{replaced(rest, RESNET) if kind == 'resnets' else rest}"
    side, block, kind, index, rest = re.match(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.*)", name).groups()
    block, index = int(block), int(index)
    start = 1 + block * (depth + 1) if side == "down" else block * (depth + 1)
    place = "input_blocks" if side == "down" else "output_blocks"
    if kind == "resnets":
        return f"{place}.{start + index}.0.{replaced(rest, RESNET)}"
    if kind == "attentions":
        return f"{place}.{start + index}.1.{rest}"
    if kind == "downsamplers":
        return f"{place}.{start + depth}.0.{rest.replace('conv', 'op')}"
    return f"{place}.{start + depth}.{2 if has_attention[block] else 1}.{rest}"


def vae_name(name, blocks):
    name = replaced(name, (("conv_norm_out", "norm_out"), ("conv_shortcut", "nin_shortcut")))
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", name)
    if "mid_block.attentions.0" in name:
        return replaced(name.replace("mid_block.attentions.0", "mid.attn_1"), VAE_ATTENTION)
    name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets", lambda found: f"up.{blocks - 1 - int(found[1])}.block", name)
    return re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda found: f"up.{blocks - 1 - int(found[1])}.upsample", name)


def open_clip(state, prefix):
    """A text tower in open_clip's layout, queries, keys and values in one matrix."""
    state, tensors = {name.removeprefix("text_model."): tensor for name, tensor in state.items()}, {}
    for name, tensor in state.items():
        if found := re.match(r"encoder\.layers\.(\d)\.(.*)", name):
            layer, rest = found.groups()
            place = f"{prefix}transformer.resblocks.{layer}."
            if joint := re.match(r"self_attn\.q_proj\.(\w+)", rest):
                parts = [state[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")]
                tensors[f"{place}attn.in_proj_{joint[1]}"] = torch.cat(parts)
            elif "k_proj" not in rest and "v_proj" not in rest:
                tensors[place + replaced(rest, OPEN_CLIP).replace("self_attn", "attn")] = tensor
        elif name == "text_projection.weight":
            tensors[f"{prefix}text_projection"] = tensor.T.contiguous()
        elif "position_ids" not in name:
            ends = (("embeddings.position_embedding.weight", "positional_embedding"), ("embeddings.", ""))
            tensors[prefix + replaced(name, (*ends, ("final_layer_norm", "ln_final")))] = tensor
    return tensors


def clip(state, prefix):
    return {f"{prefix}text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in state.items()}


def original_layout(pipeline, family):
    """Every weight of a pipeline under its name in the original code."""
    unet = pipeline.unet
    has_attention = ["CrossAttn" in block for block in unet.config.up_block_types]
    tensors = {
        f"model.diffusion_model.{unet_name(name, unet.config.layers_per_block, has_attention)}": tensor
        for name, tensor in unet.state_dict().items()
    }
    for name, tensor in pipeline.vae.state_dict().items():
        linear = "attentions.0.to_" in name and name.endswith("weight")  # 1x1 convolutions in the original
        tensors[f"first_stage_model.{vae_name(name, len(pipeline.vae.config.up_block_types))}"] = (
            tensor[:, :, None, None] if linear else tensor
        )
    first = pipeline.text_encoder.state_dict()
    if family == "sd1":
        return tensors | clip(first, "cond_stage_model.transformer.")
    if family == "sd2":
        return tensors | open_clip(first, "cond_stage_model.model.")
    second = open_clip(pipeline.text_encoder_2.state_dict(), "conditioner.embedders.1.model.")
    return tensors | clip(first, "conditioner.embedders.0.transformer.") | second


def save(tensors, path):
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, path)
