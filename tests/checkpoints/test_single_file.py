"""Tiny pipelines of every family, written in the original LDM layout and read back as stock pipelines."""

import json
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
from tests.original_layout import original_layout, save

REQUEST = GenerationRequest(prompt="a photo of a dog", seed=1, steps=2, guidance_scale=3.0)
SD2 = {"use_linear_projection": True, "attention_head_dim": (2, 4, 4), "only_cross_attention": False}


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
