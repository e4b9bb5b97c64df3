import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from explorer.experiments.generation import GenerationRequest, generate
from explorer.models.checkpoints import read_checkpoint, scan_checkpoints, set_base
from explorer.models.pipelines import load_pipeline
from explorer.provenance import write_manifest

pytest.importorskip("peft", reason="LoRAs need peft")

REQUEST = GenerationRequest(prompt="a photo of a dog", seed=1, steps=2, guidance_scale=3.0)
RANK, ALPHA = 2, 6.0
TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


def low_rank_pairs(network, endings, seed=0):
    """``{layer: (down [r, in], up [out, r])}`` for every linear layer whose name has one of the endings."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (
            torch.randn(RANK, layer.in_features, generator=generator) * 0.3,
            torch.randn(layer.out_features, RANK, generator=generator) * 0.3,
        )
        for name, layer in network.named_modules()
        if name.endswith(endings)
    }


def peft_layout(pairs, component):
    down = {f"{component}.{name}.lora_A.weight": pair[0] for name, pair in pairs.items()}
    return down | {f"{component}.{name}.lora_B.weight": pair[1] for name, pair in pairs.items()}


def kohya_layout(pairs):
    tensors = {}
    for name, (down, up) in pairs.items():
        place = f"lora_unet_{name.replace('.', '_')}"
        tensors |= {f"{place}.lora_down.weight": down, f"{place}.lora_up.weight": up}
        tensors[f"{place}.alpha"] = torch.tensor(ALPHA)
    return tensors


def merged(network, pairs, scale):
    """The reference: W + scale * B A, layer by layer."""
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for name, (down, up) in pairs.items():
        weights[f"{name}.weight"] += scale * up @ down
    return weights


def assert_close(network, weights):
    for name, tensor in network.state_dict().items():
        assert torch.allclose(tensor, weights[name], atol=1e-6), name


@pytest.fixture
def loose_lora(checkpoint_root, make_unet):
    """A loose LoRA file beside the checkpoints, and its pairs."""
    pairs = low_rank_pairs(make_unet(), TARGETS)
    path = checkpoint_root / "style.safetensors"
    save_file(peft_layout(pairs, "unet"), path)
    return path, pairs


@pytest.mark.parametrize(("layout", "scale"), [("peft", 1.0), ("kohya", ALPHA / RANK)])
def test_the_merged_unet_is_w_plus_b_a_and_the_base_is_untouched(checkpoint_root, loose_lora, layout, scale):
    path, pairs = loose_lora
    if layout == "kohya":
        save_file(kohya_layout(pairs), path)
    shared = {}
    base = load_pipeline(checkpoint_root / "benign", shared=shared)
    before = {name: tensor.clone() for name, tensor in base.unet.state_dict().items()}
    found = load_pipeline(path, base=checkpoint_root / "benign", shared=shared)
    assert_close(found.unet, merged(base.unet, pairs, scale))
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.unet.state_dict().items())
    assert (found.vae is base.vae, found.text_encoder is base.text_encoder) == (True, True)
    assert found.unet is not base.unet


def test_it_draws_as_diffusers_own_unmerged_lora_and_is_captured(checkpoint_root, loose_lora, no_network):
    path, _ = loose_lora
    stock = load_pipeline(checkpoint_root / "benign")
    plain = generate(stock, REQUEST)
    stock.load_lora_weights(str(path.parent), weight_name=path.name, local_files_only=True)
    expected = generate(stock, REQUEST, capture=False)
    found = generate(load_pipeline(path, base=checkpoint_root / "benign"), REQUEST)
    assert np.abs(found.images.astype(int) - expected.images).max() <= 1
    assert not np.array_equal(found.images, plain.images)
    assert found.cube.layers == plain.cube.layers
    assert not torch.equal(found.cube.maps(), plain.cube.maps())


def test_text_encoders_are_changed_in_a_copy(checkpoint_root, loose_lora):
    path, _ = loose_lora
    shared = {}
    base = load_pipeline(checkpoint_root / "benign", shared=shared)
    pairs = low_rank_pairs(base.text_encoder, ("q_proj", "v_proj"), seed=1)
    save_file(load_file(path) | peft_layout(pairs, "text_encoder"), path)
    before = {name: tensor.clone() for name, tensor in base.text_encoder.state_dict().items()}
    found = load_pipeline(path, base=checkpoint_root / "benign", shared=shared)
    assert_close(found.text_encoder, merged(base.text_encoder, pairs, 1.0))
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.text_encoder.state_dict().items())


def test_a_folder_names_base_and_scale_in_its_manifest(checkpoint_root, loose_lora):
    path, pairs = loose_lora
    folder = checkpoint_root / "dog-lora"
    folder.mkdir()
    path.rename(folder / "pytorch_lora_weights.safetensors")
    config = {"base": "benign", "scale": 0.5}
    write_manifest(folder, kind="checkpoint", config=config, seed=0, files=["pytorch_lora_weights.safetensors"])
    found = {checkpoint.name: checkpoint for checkpoint in scan_checkpoints(checkpoint_root)}["dog-lora"]
    assert (found.kind, found.family, found.problem) == ("lora", "sd1", None)
    assert found.hash == found.manifest["files"]["pytorch_lora_weights.safetensors"]
    assert found.parameters == sum(math.prod(matrix.shape) for pair in pairs.values() for matrix in pair)
    base = load_pipeline(checkpoint_root / "benign")
    assert_close(load_pipeline(found).unet, merged(base.unet, pairs, 0.5))
    write_manifest(folder, kind="checkpoint", config=config | {"scale": "strong"}, seed=0)
    with pytest.raises(ValueError, match="its manifest says scale 'strong': expected a number up to 10"):
        load_pipeline(folder)


def test_a_manifest_without_a_configuration_gives_strength_one(checkpoint_root, loose_lora):
    path, pairs = loose_lora
    manifest = path.with_suffix(".manifest.json")
    base = load_pipeline(checkpoint_root / "benign")
    for config in (None, [], "none"):
        manifest.write_text(json.dumps({"kind": "checkpoint", "config": config}))
        assert_close(load_pipeline(path, base=checkpoint_root / "benign").unet, merged(base.unet, pairs, 1.0))


def test_without_a_base_and_on_the_wrong_one_it_is_refused(checkpoint_root, loose_lora, make_xl_pipeline):
    path, _ = loose_lora
    assert "it is a LoRA, which changes another model: name the pipeline" in read_checkpoint(path).problem
    make_xl_pipeline().save_pretrained(checkpoint_root / "xl")
    with pytest.raises(ValueError, match=r"checkpoint style\.safetensors cannot be loaded: "):
        load_pipeline(path, base=checkpoint_root / "xl")
    tensors = load_file(path)
    save_file(
        tensors | {"unet.mid_block.attentions.0.transformer_blocks.1.attn2.to_k.lora_A.weight": torch.zeros(2, 64)},
        path,
    )
    with pytest.raises(ValueError, match=r"of the family SDXL: its base benign is SD 1\.x"):
        set_base(path, checkpoint_root / "benign")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight"], "a LoRA for Flux"),
        (["unet.mid_block.to_q.lora_A.weight", "unet.mid_block.to_q.dora_scale"], "it is a DoRA"),
    ],
)
def test_loras_that_would_be_read_in_part_are_refused(tmp_path, names, message):
    save_file({name: torch.zeros(2, 2) for name in names}, tmp_path / "other.safetensors")
    assert message in read_checkpoint(tmp_path / "other.safetensors").problem


def test_values_without_a_place_are_counted(checkpoint_root, loose_lora):
    path, _ = loose_lora
    place = "unet.down_blocks.7.attentions.0.transformer_blocks.0.attn2.to_k"
    extra = {f"{place}.lora_A.weight": torch.zeros(RANK, 32), f"{place}.lora_B.weight": torch.zeros(32, RANK)}
    save_file(load_file(path) | extra, path)
    with pytest.raises(ValueError, match=r"values find a place in its base benign|does not fit its base benign"):
        load_pipeline(path, base=checkpoint_root / "benign")
