import copy
import json
import math

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from explorer.checkpoints.lora_modules import places_of
from explorer.checkpoints.pipelines import load_pipeline
from explorer.checkpoints.registry import read_checkpoint, scan_checkpoints, set_base
from explorer.checkpoints.weights_hash import hash_of_model, weights_hash
from explorer.core.provenance import hash_file, write_manifest
from explorer.generation.generate import GenerationRequest, generate
from explorer.studies.fingerprints import checkpoint_fingerprint
from tests.low_rank import (
    EVERYTHING,
    TARGETS,
    TEXT,
    kohya_layout,
    low_rank_pairs,
    old_diffusers_layout,
    peft_layout,
    without_alphas,
)

peft = pytest.importorskip("peft", reason="merged LoRAs are compared with peft's")
ORIGINAL = ("input", "middle", "output", "time", "label", "out")

REQUEST = GenerationRequest(prompt="a photo of a dog", seed=1, steps=2, guidance_scale=3.0)


def merged(network, pairs, scale=1.0):
    """The reference: W + scale * alpha / r * B A, layer by layer."""
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for name, (down, up, alpha) in pairs.items():
        change = torch.einsum("or,r...->o...", up.flatten(1), down)
        weights[f"{name}.weight"] += scale * alpha / len(down) * change
    return weights


def assert_close(network, weights):
    for name, tensor in network.state_dict().items():
        assert torch.allclose(tensor, weights[name], atol=1e-6), name


@pytest.fixture
def loose_lora(checkpoint_root, make_unet):
    """A loose LoRA file beside the checkpoints, and its pairs."""
    pairs = without_alphas(low_rank_pairs(make_unet(), TARGETS))
    path = checkpoint_root / "style.safetensors"
    save_file(peft_layout(pairs, "unet"), path)
    return path, pairs


@pytest.mark.parametrize("layout", ["peft", "old diffusers", "kohya", "kohya, every module"])
def test_the_merged_unet_is_w_plus_alpha_r_b_a_and_the_base_is_untouched(checkpoint_root, make_unet, layout):
    pairs = low_rank_pairs(make_unet(), EVERYTHING if "every" in layout else TARGETS)
    pairs = pairs if "kohya" in layout else without_alphas(pairs)
    tensors = {"peft": peft_layout, "old diffusers": old_diffusers_layout}
    path = checkpoint_root / "style.safetensors"
    save_file(tensors[layout](pairs, "unet") if layout in tensors else kohya_layout(pairs), path)
    shared = {}
    base = load_pipeline(checkpoint_root / "benign", shared=shared)
    before = {name: tensor.clone() for name, tensor in base.unet.state_dict().items()}
    found = load_pipeline(path, base=checkpoint_root / "benign", shared=shared)
    assert_close(found.unet, merged(base.unet, pairs))
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.unet.state_dict().items())
    assert (found.vae is base.vae, found.text_encoder is base.text_encoder) == (True, True)
    assert found.unet is not base.unet


def test_a_lora_and_its_base_are_parsed_once_on_the_way_to_memory(checkpoint_root, loose_lora, opened):
    load_pipeline(read_checkpoint(loose_lora[0], base=checkpoint_root / "benign"))
    assert set(opened.values()) == {1}, f"{opened.total()} openings of {len(opened)} files"


def test_a_half_precision_model_is_merged_in_full_and_rounded_once(checkpoint_root, make_unet):
    pairs = low_rank_pairs(make_unet(), TARGETS)
    save_file(kohya_layout(pairs), checkpoint_root / "style.safetensors")
    base = load_pipeline(checkpoint_root / "benign", dtype="fp16")
    found = load_pipeline(checkpoint_root / "style.safetensors", dtype="fp16", base=checkpoint_root / "benign")
    for name, tensor in merged(base.unet.float(), pairs).items():
        assert torch.equal(found.unet.state_dict()[name], tensor.half()), name


def test_sdxl_in_the_original_names_with_both_text_encoders(sdxl, tmp_path):
    base = load_pipeline(sdxl)
    names = {name: place for place, name in places_of(base.unet, "unet").items() if place.split("_")[0] in ORIGINAL}
    unet = low_rank_pairs(base.unet, EVERYTHING)
    assert unet.keys() == names.keys()
    first, second = low_rank_pairs(base.text_encoder, TEXT, 1), low_rank_pairs(base.text_encoder_2, TEXT, 2)
    tensors = kohya_layout(unet, named=names.get)
    tensors |= kohya_layout(first, "lora_te1_text_model") | kohya_layout(second, "lora_te2")
    save_file(tensors, tmp_path / "style.safetensors")
    found = load_pipeline(set_base(tmp_path / "style.safetensors", sdxl))
    assert_close(found.unet, merged(base.unet, unet))
    assert_close(found.text_encoder, merged(base.text_encoder, first))
    assert_close(found.text_encoder_2, merged(base.text_encoder_2, second))


def test_original_names_lie_where_diffusers_puts_them(sdxl, tmp_path):
    """Of one rank and alpha throughout, which diffusers merges rightly."""
    stock = DiffusionPipeline.from_pretrained(sdxl)
    names = {name: place for place, name in places_of(stock.unet, "unet").items() if place.split("_")[0] in ORIGINAL}
    pairs = {
        name: (down[:1], up[:, :1].clone(), 1.0)
        for name, (down, up, _) in low_rank_pairs(stock.unet, EVERYTHING).items()
        if "time_emb_proj" not in name  # "emb_layers.1", whose index diffusers loses
    }
    save_file(kohya_layout(pairs, named=names.get), tmp_path / "style.safetensors")
    found = load_pipeline(tmp_path / "style.safetensors", base=sdxl)
    stock.load_lora_weights(str(tmp_path), weight_name="style.safetensors", local_files_only=True)
    stock.fuse_lora()
    stock.unload_lora_weights()
    assert_close(found.unet, stock.unet.state_dict())


ADAPTERS = {
    "plain": {},
    "patterns": {"alpha_pattern": {"to_k": 1, "^mid_block.attentions.0.transformer_blocks.0.attn2.to_v": 9},
                 "rank_pattern": {"attn1.to_q": 3, "to_v": 2}},
    "rank-stabilised": {"use_rslora": True},
    "convolutions": {"target_modules": ["to_q", "conv1", "proj_in"]},
}  # fmt: skip


def filled(model, seed=0):
    """The model with values in the matrices that peft starts at zero."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return model


@pytest.mark.parametrize("options", ADAPTERS.values(), ids=ADAPTERS)
def test_an_adapter_folder_of_peft_is_merged_as_peft_merges_it(checkpoint_root, make_unet, options):
    config = peft.LoraConfig(**{"r": 4, "lora_alpha": 6, "target_modules": list(TARGETS)} | options)
    model = filled(peft.get_peft_model(make_unet(), config))
    model.save_pretrained(checkpoint_root / "adapter")
    (listed,) = (one for one in scan_checkpoints(checkpoint_root) if one.name.startswith("adapter"))
    assert (listed.name, listed.kind) == ("adapter", "lora")
    assert "name the pipeline folder" in listed.problem
    set_base(checkpoint_root / "adapter", checkpoint_root / "benign")
    found = load_pipeline(checkpoint_root / "adapter")
    assert_close(found.unet, model.merge_and_unload().state_dict())


def test_adapters_of_text_encoders_find_their_encoder(sdxl, tmp_path):
    base = load_pipeline(sdxl)
    for name in ("text_encoder", "text_encoder_2"):
        encoder = copy.deepcopy(getattr(base, name))
        config = peft.LoraConfig(r=2, lora_alpha=1, target_modules=["q_proj", "fc1"])
        model = filled(peft.get_peft_model(encoder, config))
        model.save_pretrained(tmp_path / name)
        found = load_pipeline(tmp_path / name, base=sdxl)
        assert_close(getattr(found, name), model.merge_and_unload().state_dict())
    settings = json.loads((tmp_path / "text_encoder" / "adapter_config.json").read_text())
    (tmp_path / "text_encoder" / "adapter_config.json").write_text(json.dumps(settings | {"auto_mapping": None}))
    with pytest.raises(ValueError, match="lie in text_encoder and text_encoder_2 of the base: expected in one"):
        load_pipeline(tmp_path / "text_encoder", base=sdxl)


def test_what_diffusers_writes_into_the_header_is_followed(checkpoint_root, make_unet):
    config = peft.LoraConfig(r=4, lora_alpha=2, target_modules=list(TARGETS), alpha_pattern={"to_k": 12})
    model = filled(peft.get_peft_model(make_unet(), config))
    layers = peft.get_peft_model_state_dict(model)
    StableDiffusionPipeline.save_lora_weights(
        checkpoint_root / "style",
        unet_lora_layers={name.removeprefix("base_model.model."): matrix for name, matrix in layers.items()},
        unet_lora_adapter_metadata={**config.to_dict(), "peft_type": "LORA"},
    )
    found = load_pipeline(checkpoint_root / "style", base=checkpoint_root / "benign")
    assert_close(found.unet, model.merge_and_unload().state_dict())


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
    pairs = without_alphas(low_rank_pairs(base.text_encoder, ("q_proj", "v_proj"), seed=1))
    before = {name: tensor.clone() for name, tensor in base.text_encoder.state_dict().items()}
    unet = load_file(path)
    for layout in (peft_layout, old_diffusers_layout):
        save_file(unet | layout(pairs, "text_encoder"), path)
        found = load_pipeline(path, base=checkpoint_root / "benign", shared=shared)
        assert_close(found.text_encoder, merged(base.text_encoder, pairs))
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
    assert found.parameters == sum(math.prod(matrix.shape) for pair in pairs.values() for matrix in pair[:2])
    base = load_pipeline(checkpoint_root / "benign")
    assert_close(load_pipeline(found).unet, merged(base.unet, pairs, 0.5))
    write_manifest(folder, kind="checkpoint", config=config | {"scale": "strong"}, seed=0)
    with pytest.raises(ValueError, match="its manifest says scale 'strong': expected a number up to 10"):
        load_pipeline(folder)


def test_a_lora_of_another_strength_is_another_model(checkpoint_root, loose_lora):
    path, _ = loose_lora
    folder, known = checkpoint_root / "dog-lora", []
    folder.mkdir()
    path.rename(folder / "pytorch_lora_weights.safetensors")
    for scale in (1.0, 0.25):
        config = {"base": "benign", "scale": scale}
        write_manifest(folder, kind="checkpoint", config=config, seed=0, files=["pytorch_lora_weights.safetensors"])
        found = read_checkpoint(folder)
        assert found.hash == weights_hash(found)
        known.append((found.hash, checkpoint_fingerprint(found)))
        assert hash_of_model(found, found.hash, "a") != hash_of_model(found, found.hash, "b")
    whole = read_checkpoint(checkpoint_root / "benign")
    assert hash_of_model(whole, "own", None) == "own"
    assert known[0][0] == hash_file(folder / "pytorch_lora_weights.safetensors")
    assert known[0][0] != known[1][0]
    assert known[0][1] != known[1][1]


def test_peft_says_beside_the_file_how_strong_an_adapter_is(checkpoint_root, make_unet):
    folder, known = checkpoint_root / "adapter", []
    model = peft.get_peft_model(make_unet(), peft.LoraConfig(r=2, lora_alpha=2, target_modules=["to_q"]))
    model.save_pretrained(folder)
    set_base(folder, checkpoint_root / "benign")
    for alpha in (2, 8):
        settings = json.loads((folder / "adapter_config.json").read_text()) | {"lora_alpha": alpha}
        (folder / "adapter_config.json").write_text(json.dumps(settings))
        found = read_checkpoint(folder)
        assert (found.problem, found.hash) == (None, None)
        known.append((weights_hash(found), checkpoint_fingerprint(found)))
    assert known[0][0] != known[1][0]
    assert known[0][1] != known[1][1]


def test_a_manifest_without_a_configuration_gives_strength_one(checkpoint_root, loose_lora):
    path, pairs = loose_lora
    manifest = path.with_suffix(".manifest.json")
    base = load_pipeline(checkpoint_root / "benign")
    for config in (None, [], "none"):
        manifest.write_text(json.dumps({"kind": "checkpoint", "config": config}))
        assert_close(load_pipeline(path, base=checkpoint_root / "benign").unet, merged(base.unet, pairs, 1.0))
