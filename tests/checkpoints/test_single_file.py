"""Tiny pipelines of every family, written in the original LDM layout and read back as stock pipelines."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from explorer.checkpoints.pipelines import load_pipeline
from explorer.checkpoints.registry import read_checkpoint, scan_checkpoints, set_base, validate
from explorer.checkpoints.weights_hash import weights_hash
from explorer.core.provenance import hash_file
from explorer.generation.generate import GenerationRequest, generate

REQUEST = GenerationRequest(prompt="a photo of a dog", seed=1, steps=2, guidance_scale=3.0)
SD2 = {"use_linear_projection": True, "attention_head_dim": (2, 4, 4), "only_cross_attention": False}

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


@pytest.fixture(scope="module")
def families(make_pipeline, make_xl_pipeline):
    return {
        "sd1": make_pipeline(only_cross_attention=False),
        "sd2": make_pipeline(**SD2),
        "sdxl": make_xl_pipeline(second_width=48),
    }


@pytest.fixture
def root(tmp_path, families):
    """For every family a pipeline folder, and its weights as ``FAMILY.safetensors`` standing on it."""
    for family, pipeline in families.items():
        pipeline.save_pretrained(tmp_path / f"{family}-folder")
        save(original_layout(pipeline, family), tmp_path / f"{family}.safetensors")
    return tmp_path


def strip_weights(folder):
    for path in folder.rglob("*.safetensors"):
        path.unlink()


def test_single_files_give_the_images_of_the_pipelines_they_were_made_from(root, families, no_network):
    for family, pipeline in families.items():
        strip_weights(root / f"{family}-folder")
        found = validate(read_checkpoint(root / f"{family}.safetensors", base=root / f"{family}-folder"), thorough=True)
        assert (found.kind, found.family, found.problem) == ("single-file", family, None)
        assert found.parameters == sum(tensor.numel() for tensor in pipeline.unet.state_dict().values())
        loaded = load_pipeline(found)
        expected, images = generate(pipeline, REQUEST), generate(loaded, REQUEST)
        assert np.array_equal(expected.images, images.images), family
        assert torch.equal(expected.cube.maps(), images.cube.maps())
        assert loaded.scheduler.config.prediction_type == pipeline.scheduler.config.prediction_type


def test_a_single_file_and_its_base_are_parsed_once_on_the_way_to_memory(root, opened):
    load_pipeline(read_checkpoint(root / "sd1.safetensors", base=root / "sd1-folder"))
    assert set(opened.values()) == {1}, f"{opened.total()} openings of {len(opened)} files"


def test_a_single_file_shares_what_equals_its_base_and_lends_what_it_lacks(root):
    path = root / "sd1.safetensors"
    save({name: t for name, t in load_file(path).items() if not name.startswith("cond_stage_model")}, path)
    shared = {}
    base = load_pipeline(root / "sd1-folder", shared=shared)
    found = load_pipeline(path, base=root / "sd1-folder", shared=shared)
    assert (found.vae is base.vae, found.text_encoder is base.text_encoder) == (True, True)
    assert found.tokenizer is base.tokenizer
    assert found.unet is not base.unet
    strip_weights(root / "sd1-folder" / "text_encoder")
    problem = read_checkpoint(path, base=root / "sd1-folder").problem
    assert problem == "its base pipeline sd1-folder is broken: text_encoder/ holds no .safetensors weights"


def test_the_registry_says_what_a_single_file_needs_and_takes_the_base_named(root):
    shutil.rmtree(root / "sd1-folder")
    found = {checkpoint.name: checkpoint for checkpoint in scan_checkpoints(root)}
    assert found["sd2.safetensors"].family == "sd2"
    assert "name a diffusers folder of the same family (SD 2.x)" in found["sd2.safetensors"].problem
    with pytest.raises(ValueError, match=r"of the family SD 2\.x: its base sdxl-folder is SDXL"):
        set_base(root / "sd2.safetensors", root / "sdxl-folder")
    assert not (root / "sd2.manifest.json").exists()
    set_base(root / "sd2.safetensors", root / "sd2-folder")
    found = {checkpoint.name: checkpoint for checkpoint in scan_checkpoints(root)}["sd2.safetensors"]
    assert (found.problem, found.hash) == (None, None)
    assert found.base.resolve() == (root / "sd2-folder").resolve()
    assert weights_hash(found) == hash_file(root / "sd2.safetensors")
    assert validate(found, thorough=True).hash == weights_hash(found)


def test_what_does_not_fit_is_named(root, make_pipeline):
    path, base = root / "sd1.safetensors", root / "sd1-folder"
    tensors = load_file(path)
    save(tensors | {"v_pred": torch.zeros(0)}, path)
    scheduler = base / "scheduler" / "scheduler_config.json"
    assert read_checkpoint(path, base=base).problem is None
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"prediction_type": "epsilon"}))
    assert "trained for v-prediction" in read_checkpoint(path, base=base).problem
    name = "model.diffusion_model.out.2.bias"
    save(tensors | {name: torch.zeros(5)}, path)
    assert "its unet has" in validate(read_checkpoint(path, base=base)).problem
    twin = "model.diffusion_model.time_embed.2.bias"
    save({key: t for key, t in tensors.items() if key != twin} | {"model.diffusion_model.gone": tensors[twin]}, path)
    with pytest.raises(
        ValueError, match=r"sd1\.safetensors cannot be loaded: it lacks weights that its base sd1-folder"
    ):
        load_pipeline(path, base=base)
    save(tensors | {name: torch.full((4,), float("nan"))}, path)
    assert validate(read_checkpoint(path, base=base)).problem is None
    problem = validate(read_checkpoint(path, base=base), thorough=True).problem
    assert problem == f"sd1.safetensors has NaN or infinite values in {name}"


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        (
            lambda name, tensor: {name.replace("transformer.text_model.", "transformer."): tensor},
            "does not read, such as",
        ),
        (lambda name, tensor: {name: tensor, "ztsnr": torch.zeros(0)}, "a terminal signal-to-noise ratio of zero"),
        (lambda name, tensor: {name: tensor, "edm_std": torch.zeros(4)}, "another noise parameterisation (EDM)"),
        (lambda name, tensor: {name: tensor, "alphas_cumprod": torch.ones(1000)}, "its alphas_cumprod are not those"),
        (lambda name, tensor: {name: tensor, "scaled_fp8": torch.zeros(0)}, "scales of their own (scaled_fp8)"),
        (lambda name, tensor: {} if "encoder.layers.1.mlp" in name else {name: tensor}, "text_encoder lacks"),
    ],
)
def test_what_a_file_says_and_is_not_followed_is_told(root, changed, problem):
    path = root / "sd1.safetensors"
    tensors = {}
    for name, tensor in load_file(path).items():
        tensors |= changed(name, tensor)
    save(tensors, path)
    found = validate(read_checkpoint(path, base=root / "sd1-folder"), thorough=True)
    assert problem in found.problem
    with pytest.raises(ValueError, match=r"sd1\.safetensors cannot be loaded"):
        load_pipeline(path, base=root / "sd1-folder")


def test_the_noise_levels_of_the_original_code_are_compared_with_the_base(root):
    path, base = root / "sd1.safetensors", root / "sd1-folder"
    levels = load_pipeline(base).scheduler.alphas_cumprod
    save(load_file(path) | {"alphas_cumprod": levels.half()}, path)
    assert validate(read_checkpoint(path, base=base)).problem is None
    scheduler = base / "scheduler" / "scheduler_config.json"
    changed = json.loads(scheduler.read_text()) | {"rescale_betas_zero_snr": True}
    scheduler.write_text(json.dumps(changed))
    assert "its alphas_cumprod are not those" in validate(read_checkpoint(path, base=base)).problem
    save({name: t for name, t in load_file(path).items() if name != "alphas_cumprod"} | {"ztsnr": torch.zeros(0)}, path)
    assert validate(read_checkpoint(path, base=base)).problem is None


@pytest.mark.parametrize("lacks_text", [True, False])
def test_a_base_whose_text_configuration_describes_no_model_is_told_in_words(root, lacks_text):
    path, config = root / "sd1.safetensors", root / "sd1-folder" / "text_encoder" / "config.json"
    if lacks_text:
        save({name: t for name, t in load_file(path).items() if not name.startswith("cond_stage_model")}, path)
    config.write_text(json.dumps(json.loads(config.read_text()) | {"num_attention_heads": 0}))
    with pytest.raises(ValueError, match=r"cannot be loaded(:| as CLIPTextModel:)"):
        load_pipeline(path, base=root / "sd1-folder")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["something.weight"], "neither those of a Stable Diffusion file nor a LoRA's"),
        (["model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight"], "a single file of SD3"),
        (["double_blocks.0.img_attn.qkv.weight"], "a single file of Flux"),
        (["model.diffusion_model.label_emb.0.0.weight", "edm_mean"], "another noise parameterisation"),
    ],
)
def test_files_of_other_models_are_refused(tmp_path, names, message):
    save_file({name: torch.zeros(2, 2) for name in names}, tmp_path / "other.safetensors")
    (found,) = scan_checkpoints(tmp_path)
    assert message in found.problem


def test_folders_that_say_they_are_something_else_are_left_out(tmp_path):
    (tmp_path / "extractor").mkdir()
    save_file({"visual.proj": torch.zeros(2)}, tmp_path / "extractor" / "model.safetensors")
    assert len(scan_checkpoints(tmp_path)) == 1
    (tmp_path / "extractor" / "manifest.json").write_text('{"kind": "extractor"}')
    assert scan_checkpoints(tmp_path) == []
