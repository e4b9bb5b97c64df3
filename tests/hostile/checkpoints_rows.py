"""Hostile checkpoint folders: rows of the table in test_hostile.py."""

import json


def _nothing_there(folder):
    return ["checkpoints", folder / "absent"]


def _lora(names, **config):
    """A file (or with ``config`` a peft adapter) whose tensors are so called, listed."""

    def make(folder):
        import torch
        from safetensors.torch import save_file

        save_file({name: torch.zeros(2, 2) for name in names}, folder / "adapter_model.safetensors")
        if config:
            (folder / "adapter_config.json").write_text(json.dumps(config))
        return ["checkpoints", folder]

    return make


_MATRICES = [f"base_model.model.{'a' * 40}b.lora_{part}.weight" for part in "AB"]

ROWS = {
    "a folder that is not there": (_nothing_there, "absent.*(not|no|expected) "),
    "a LoHa": (_lora(["lora_unet_a.hada_w1_a", "lora_unet_a.alpha"]), "no plain LoRA but LoHa"),
    "a LoRA with a tensor of no known meaning": (_lora(["a.lora_up.weight", "a.strength"]), r"a\.strength.*no part"),
    "a peft adapter without its configuration": (_lora(_MATRICES), "adapter_config.json.*missing"),
    "a pattern that never ends": (_lora(_MATRICES, r=2, lora_alpha=1, alpha_pattern={"(a+)+": 1}), "names of modules"),
}
