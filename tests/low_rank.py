"""Random low-rank updates of a network, in the layouts of LoRA files."""

import torch

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
EVERYTHING = (*TARGETS, "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "conv1", "conv2", "conv_shortcut", "conv",
              "conv_in", "conv_out", "time_emb_proj", "linear_1", "linear_2")  # fmt: skip
TEXT = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


def low_rank_pairs(network, endings, seed=0):
    """``{layer: (down [r, in, ...], up [out, r, ...], alpha)}`` for every layer whose name has one of the endings; rank
    and alpha differ from layer to layer."""
    generator = torch.Generator().manual_seed(seed)
    layers = [name for name, _ in network.named_modules() if name.endswith(endings)]
    pairs = {}
    for index, name in enumerate(layers):
        weight = network.get_submodule(name).weight
        rank = 1 + index % 3
        down = torch.randn(rank, *weight.shape[1:], generator=generator) * 0.3
        up = torch.randn(len(weight), rank, *(1,) * (weight.ndim - 2), generator=generator) * 0.3
        pairs[name] = (down, up, (6.0, 0.5, 2.0, 1.0)[index % 4])
    return pairs


def without_alphas(pairs):
    return {name: (down, up, float(len(down))) for name, (down, up, _) in pairs.items()}


def peft_layout(pairs, component):
    down = {f"{component}.{name}.lora_A.weight": pair[0] for name, pair in pairs.items()}
    return down | {f"{component}.{name}.lora_B.weight": pair[1] for name, pair in pairs.items()}


def kohya_layout(pairs, prefix="lora_unet", named=lambda name: name):
    tensors = {}
    for name, (down, up, alpha) in pairs.items():
        place = f"{prefix}_{named(name).replace('.', '_')}"
        tensors |= {f"{place}.lora_down.weight": down, f"{place}.lora_up.weight": up}
        tensors[f"{place}.alpha"] = torch.tensor(alpha)
    return tensors


def old_diffusers_layout(pairs, component):
    """As ``save_attn_procs`` wrote it: ``attn1.processor.to_out_lora.down.weight``, ``to_q_lora`` in text encoders."""
    tensors = {}
    for name, (down, up, _) in pairs.items():
        if component == "unet":
            front, _, projection = name.removesuffix(".0").rpartition(".")
            place = f"{front}.processor.{projection}"
        else:
            place = f"text_model.{name}".replace("_proj", "").replace("self_attn.", "self_attn.to_")
        tensors[f"{component}.{place}_lora.down.weight"] = down
        tensors[f"{component}.{place}_lora.up.weight"] = up
    return tensors
