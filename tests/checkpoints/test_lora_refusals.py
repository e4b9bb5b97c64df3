import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from explorer.checkpoints.pipelines import load_pipeline
from explorer.checkpoints.registry import read_checkpoint, set_base
from tests.checkpoints.test_lora import TARGETS, low_rank_pairs, peft_layout, without_alphas


def test_without_a_base_and_on_the_wrong_one_it_is_refused(checkpoint_root, make_unet, sdxl):
    path = checkpoint_root / "style.safetensors"
    save_file(peft_layout(without_alphas(low_rank_pairs(make_unet(), TARGETS)), "unet"), path)
    assert "it is a LoRA, which changes another model: name the pipeline" in read_checkpoint(path).problem
    with pytest.raises(
        ValueError, match=r"checkpoint style\.safetensors cannot be loaded: it does not fit its base xl: "
    ):
        load_pipeline(path, base=sdxl)
    place = "unet.mid_block.attentions.0.transformer_blocks.1.attn2.to_k"
    matrices = {f"{place}.lora_A.weight": torch.zeros(2, 64), f"{place}.lora_B.weight": torch.zeros(64, 2)}
    save_file(load_file(path) | matrices, path)
    with pytest.raises(ValueError, match=r"of the family SDXL: its base benign is SD 1\.x"):
        set_base(path, checkpoint_root / "benign")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight"], "a LoRA for Flux"),
        (["unet.mid_block.to_q.lora_A.weight", "unet.mid_block.to_q.dora_scale"], "no plain LoRA but DoRA"),
        (["lora_unet_mid_block_to_q.hada_w1_a", "lora_unet_mid_block_to_q.alpha"], "no plain LoRA but LoHa"),
        (["lora_unet_mid_block_to_q.lokr_w1", "lora_unet_mid_block_to_q.lokr_w2_a"], "no plain LoRA but LoKr"),
        (["a.lora_down.weight", "a.lora_mid.weight", "a.lora_up.weight"], "LoCon with a Tucker core"),
        (["a.lora_down.weight", "a.lora_up.weight", "b.diff"], r"but full difference \(b.diff\)"),
        (["a.lora_A.weight", "a.lora_B.weight", "a.lora_B.bias"], "holds a.lora_B.bias, which is no part of a LoRA"),
        (["a.lora_A.weight", "a.lora_B.weight", "a.lora_down.weight"], "both a.lora_A.weight and a.lora_down.weight"),
        (["a.lora_A.weight"], "a lacks its up matrix"),
        (["a.lora_A.weight", "a.lora_B.weight", "b.alpha"], "b lacks its down and up matrix"),
        (["base_model.model.a.lora_A.weight", "base_model.model.a.lora_B.weight"], "adapter_config.json.* is missing"),
    ],
)
def test_loras_that_would_be_read_in_part_are_refused(tmp_path, names, message):
    save_file({name: torch.zeros(2, 2) for name in names}, tmp_path / "other.safetensors")
    found = read_checkpoint(tmp_path / "other.safetensors")
    assert found.kind == "lora"
    assert re.search(message, found.problem), found.problem


@pytest.mark.parametrize(("down", "up"), [((2,), (2, 2)), ((), (2, 2)), ((2, 2), (2, 3)), ((0, 2), (2, 0))])
def test_matrices_that_cannot_be_multiplied_are_refused(tmp_path, down, up):
    tensors = {"a.lora_A.weight": torch.zeros(down), "a.lora_B.weight": torch.zeros(up)}
    save_file(tensors, tmp_path / "other.safetensors")
    assert "expected two matrices of one rank" in read_checkpoint(tmp_path / "other.safetensors").problem


KEY = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unet.down_blocks.7.to_k": ((2, 32), (32, 2))}, r"unet\.down_blocks\.7\.to_k has no place in unet"),
        ({f"unet.{KEY}": ((2, 32), (8, 2))}, r"is \[8, 2\] times \[2, 32\]: the weight in the base is \[16, 32\]"),
        ({f"unet.{KEY}": ((2, 16), (16, 2))}, r"is \[16, 2\] times \[2, 16\]"),
        ({f"unet.{KEY}": ((2, 32), (16, 2), [1.0, 2.0])}, r"alpha is \[1\.0, 2\.0\]: expected one number"),
        ({f"unet.{KEY}": ((2, 32), (16, 2), float("nan"))}, "alpha is nan: expected one number"),
        (dict.fromkeys((f"lora_unet_{KEY.replace('.', '_')}", f"unet.{KEY}"), ((2, 32), (16, 2))), "a second update"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_base_is_refused_by_name(checkpoint_root, changes, message):
    tensors = {}
    for name, (down, up, *alpha) in changes.items():
        tensors |= {f"{name}.lora_down.weight": torch.zeros(down), f"{name}.lora_up.weight": torch.zeros(up)}
        tensors |= {f"{name}.alpha": torch.tensor(value) for value in alpha}
    save_file(tensors, checkpoint_root / "style.safetensors")
    with pytest.raises(ValueError, match=f"does not fit its base benign: .*{message}"):
        load_pipeline(checkpoint_root / "style.safetensors", base=checkpoint_root / "benign")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_dora": True}, "use_dora: True, which cannot be followed"),
        ({"peft_type": "LOHA"}, "peft_type: 'LOHA'"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights: 'pissa'"),
        ({"a_later_method": {"x": 1}}, "a_later_method"),
        ({"r": 8}, "is of rank 2: its configuration says 8"),
        ({"lora_alpha": "strong"}, "gives 'strong' as alpha of"),
        ({"lora_alpha": 10**400}, "as alpha of .*: expected a number up to"),
        ({"alpha_pattern": {"(a+)+": 1}}, r"the pattern '\(a\+\)\+': expected names of modules"),
        ({"rank_pattern": [1]}, r"the patterns \[1\]: expected an object"),
    ],
)
def test_an_adapter_whose_configuration_says_more_is_refused(tmp_path, changes, message):
    names = (f"base_model.model.{KEY}.lora_{part}.weight" for part in "AB")
    save_file({name: torch.zeros(2, 2) for name in names}, tmp_path / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | changes))
    found = read_checkpoint(tmp_path)
    assert found.kind == "lora"
    assert re.search(message, found.problem), found.problem
