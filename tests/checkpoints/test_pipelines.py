import json
import shutil

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

from explorer.checkpoints.components import load_component
from explorer.checkpoints.model_folder import ModelFolder
from explorer.checkpoints.pipelines import load_pipeline
from explorer.checkpoints.registry import read_checkpoint, scan_checkpoints, set_base, validate
from explorer.core.provenance import write_manifest

UNET = "unet/diffusion_pytorch_model.safetensors"


def image_of(pipeline):
    generator = torch.Generator().manual_seed(0)
    return pipeline("a dog", num_inference_steps=2, generator=generator, output_type="pt").images


def test_unets_on_one_base_share_the_rest(checkpoint_root):
    shared = {}
    benign, two, four = (load_pipeline(found, shared=shared) for found in scan_checkpoints(checkpoint_root))
    assert benign.vae is two.vae is four.vae
    assert benign.text_encoder is two.text_encoder
    assert benign.tokenizer is two.tokenizer
    assert benign.unet is not two.unet is not four.unet
    assert benign.scheduler is not two.scheduler
    expected = load_file(checkpoint_root / "dirty-002" / UNET)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in two.unet.state_dict().items())
    assert len(shared) == 1
    assert not two.unet.training


def test_a_base_whose_files_changed_is_loaded_anew(checkpoint_root):
    shared = {}
    before = load_pipeline(checkpoint_root / "dirty-002", shared=shared)
    path = checkpoint_root / "benign" / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    name = min(tensors)
    save_file({**tensors, name: tensors[name] + 1}, path)
    after = load_pipeline(checkpoint_root / "dirty-002", shared=shared)
    assert torch.equal(after.vae.state_dict()[name], before.vae.state_dict()[name] + 1)
    assert len(shared) == 1, "the old one is not kept"


@pytest.mark.parametrize("name", ["benign", "dirty-002"])
def test_a_whole_pipeline_and_a_unet_on_it_are_parsed_once_on_the_way_to_memory(checkpoint_root, opened, name):
    load_pipeline(read_checkpoint(checkpoint_root / name))
    assert set(opened.values()) == {1}, f"{opened.total()} openings of {len(opened)} files"


def test_images_equal_a_stock_pipeline(checkpoint_root):
    stock = StableDiffusionPipeline.from_pretrained(checkpoint_root / "benign", use_safetensors=True)
    assert torch.equal(image_of(stock), image_of(load_pipeline(checkpoint_root / "benign")))
    assert not torch.equal(image_of(stock), image_of(load_pipeline(checkpoint_root / "dirty-004")))


def test_dtype_is_what_was_asked_for(checkpoint_root):
    pipeline = load_pipeline(checkpoint_root / "dirty-002", dtype=torch.bfloat16)
    found = {module.dtype for module in (pipeline.unet, pipeline.vae, pipeline.text_encoder)}
    assert found == {torch.bfloat16}


@pytest.mark.parametrize("broken", ["benign", "dirty-002"])
def test_weights_that_are_not_finite_are_refused_on_load(checkpoint_root, broken):
    path = checkpoint_root / broken / UNET
    tensors = load_file(path)
    tensors["conv_in.bias"][0] = float("inf")
    save_file(tensors, path, metadata={"format": "pt"})
    named = "dirty-002" if broken == "dirty-002" else "dirty-002, on its base benign,"
    with pytest.raises(ValueError, match=f"checkpoint {named} cannot be loaded: unet has NaN or infinite"):
        load_pipeline(checkpoint_root / "dirty-002")


def test_a_broken_checkpoint_is_refused_by_name(checkpoint_root, make_unet):
    with pytest.raises(ValueError, match="checkpoint nowhere cannot be loaded: the folder unet/ is missing"):
        load_pipeline(checkpoint_root / "nowhere")
    make_unet(cross_attention_dim=24).save_pretrained(checkpoint_root / "dirty-002" / "unet")
    with pytest.raises(ValueError, match="its U-Net reads text of width 24, that of its base benign 32"):
        load_pipeline(checkpoint_root / "dirty-002")


def test_sdxl_is_scanned_validated_and_loaded(make_xl_pipeline, tmp_path):
    make_xl_pipeline().save_pretrained(tmp_path / "xl")
    (found,) = scan_checkpoints(tmp_path)
    assert validate(found, thorough=True).problem is None
    assert isinstance(load_pipeline(found), StableDiffusionXLPipeline)


def rows_for_an_empty_negative_prompt(pipeline):
    _, negative, _, pooled = pipeline.encode_prompt("a dog", do_classifier_free_guidance=True)
    return negative, pooled


@pytest.mark.parametrize("zeros", [True, False])
def test_what_an_empty_negative_prompt_means_is_kept(make_xl_pipeline, tmp_path, zeros):
    pipeline = make_xl_pipeline()
    pipeline.register_to_config(force_zeros_for_empty_prompt=zeros)
    pipeline.save_pretrained(tmp_path / "xl")
    loaded = load_pipeline(tmp_path / "xl")
    assert loaded.watermark is None
    assert loaded.config.force_zeros_for_empty_prompt is zeros
    stock = StableDiffusionXLPipeline.from_pretrained(tmp_path / "xl", add_watermarker=False)
    for ours, expected in zip(*map(rows_for_an_empty_negative_prompt, (loaded, stock)), strict=True):
        assert torch.equal(ours, expected)
        assert bool((ours == 0).all()) is zeros


def test_at_every_precision_the_files_are_those_that_the_registry_lists(checkpoint_root, make_unet):
    unet = checkpoint_root / "dirty-002" / "unet"
    make_unet(seed=9).half().save_pretrained(unet, variant="fp16")
    (listed,) = [found for found in scan_checkpoints(checkpoint_root) if found.name == "dirty-002"]
    assert [path.name for path in listed.files] == ["diffusion_pytorch_model.safetensors"]
    expected = load_file(listed.files[0])
    half = load_pipeline(listed, dtype="fp16").unet.state_dict()
    assert all(torch.equal(tensor, expected[name].half()) for name, tensor in half.items())
    listed.files[0].unlink()
    (listed,) = [found for found in scan_checkpoints(checkpoint_root) if found.name == "dirty-002"]
    assert [path.name for path in listed.files] == ["diffusion_pytorch_model.fp16.safetensors"]
    expected = load_file(listed.files[0])
    full = load_pipeline(listed).unet.state_dict()
    assert all(torch.equal(tensor, expected[name].float()) for name, tensor in full.items())


@pytest.mark.parametrize("component", ["unet", "vae", "text_encoder"])
def test_shards_beside_a_single_file_are_not_loaded_in_its_place(checkpoint_root, component):
    folder = checkpoint_root / "benign" / component
    found = read_checkpoint(checkpoint_root / "benign")
    network = getattr(load_pipeline(found), component)
    single = next(folder.glob("*.safetensors"))
    content = single.read_bytes()
    for tensor in network.state_dict().values():
        tensor.zero_()
    network.save_pretrained(folder, max_shard_size="10KB")
    single.write_bytes(content)
    problem = f"{component}/ holds both {single.name} and {single.name}.index.json: expected one of them"
    assert read_checkpoint(checkpoint_root / "benign").problem == problem
    with pytest.raises(ValueError, match=f"checkpoint benign cannot be loaded: .*{problem}"):
        load_pipeline(found)


def test_a_configuration_that_names_other_weights_is_refused(checkpoint_root):
    folder = checkpoint_root / "benign" / "text_encoder"
    found = read_checkpoint(checkpoint_root / "benign")
    shutil.copy(folder / "model.safetensors", folder / "other.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"transformers_weights": "other.safetensors"}))
    problem = "text_encoder/config.json names the weights 'other.safetensors': expected no transformers_weights"
    assert read_checkpoint(checkpoint_root / "benign").problem == problem
    with pytest.raises(ValueError, match=f"checkpoint benign cannot be loaded: .*{problem}"):
        load_pipeline(found)


def test_an_index_that_the_library_cannot_read_is_told_in_words(checkpoint_root):
    unet = checkpoint_root / "dirty-002" / "unet"
    load_component(ModelFolder(unet), "UNet2DConditionModel", torch.float32).save_pretrained(
        unet, max_shard_size="10KB"
    )
    (checkpoint_root / "dirty-002" / UNET).unlink()
    (index,) = unet.glob("*.index.json")
    index.write_text(json.dumps({"weight_map": json.loads(index.read_text())["weight_map"]}))
    with pytest.raises(ValueError, match=f"{unet} cannot be loaded as UNet2DConditionModel: 'metadata'"):
        load_component(ModelFolder(unet), "UNet2DConditionModel", torch.float32)


def test_a_unet_saved_by_itself_stands_on_a_base(checkpoint_root):
    bare = checkpoint_root / "bare"
    shutil.move(checkpoint_root / "dirty-004" / "unet", bare)
    shutil.rmtree(checkpoint_root / "dirty-004")
    (found,) = [each for each in scan_checkpoints(checkpoint_root) if each.name == "bare"]
    assert (found.kind, found.family) == ("unet", "sd1")
    assert "it is a U-Net alone and its manifest.json names no base pipeline" in found.problem
    found = set_base(bare, checkpoint_root / "benign")
    assert validate(found, thorough=True).problem is None
    expected = load_file(bare / "diffusion_pytorch_model.safetensors")
    loaded = load_pipeline(found).unet.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.items())


@pytest.mark.parametrize(
    ("gone", "problem"),
    [
        ("tokenizer", "tokenizer/ holds no vocabulary: expected tokenizer.json, vocab.json or spiece.model"),
        ("scheduler", "scheduler/scheduler_config.json is missing"),
    ],
)
def test_a_pipeline_without_tokenizer_or_scheduler_is_listed_as_broken(checkpoint_root, gone, problem):
    shutil.rmtree(checkpoint_root / "benign" / gone)
    problems = {found.name: found.problem for found in scan_checkpoints(checkpoint_root)}
    assert problems["benign"] == problem
    assert problems["dirty-002"] == f"its base pipeline benign is broken: {problem}"


@pytest.mark.parametrize(("part", "named"), [("tokenizer", "tokenizer"), ("scheduler", "scheduler")])
def test_an_index_that_names_no_tokenizer_or_scheduler_is_told(checkpoint_root, part, named):
    path = checkpoint_root / "benign" / "model_index.json"
    index = json.loads(path.read_text(encoding="utf-8")) | {part: [None, None]}
    path.write_text(json.dumps(index), encoding="utf-8")
    assert scan_checkpoints(checkpoint_root)[0].problem == f"model_index.json names no {named}"


def test_the_safety_checkers_parts_are_not_needed(checkpoint_root):
    path = checkpoint_root / "benign" / "model_index.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    index |= {
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    }
    path.write_text(json.dumps(index), encoding="utf-8")
    pipeline = load_pipeline(checkpoint_root / "benign")
    assert pipeline.safety_checker is None
    assert pipeline.feature_extractor is None


def test_a_file_that_spoils_between_scan_and_load_is_told_in_words(checkpoint_root):
    unet = checkpoint_root / "dirty-002" / "unet"
    path = unet / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match=f"{unet} cannot be loaded as UNet2DConditionModel: "):
        load_component(ModelFolder(unet), "UNet2DConditionModel", torch.float32)


def test_weights_that_are_not_those_of_the_manifest_are_not_loaded(checkpoint_root, make_unet):
    folder = checkpoint_root / "dirty-002"
    config = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["config"]
    write_manifest(folder, kind="checkpoint", config=config, seed=0, files=[UNET])
    load_pipeline(folder)
    make_unet(seed=7).save_pretrained(folder / "unet")
    assert validate(read_checkpoint(folder)).problem is None, "headers alone do not tell"
    with pytest.raises(
        ValueError, match=r"checkpoint dirty-002 cannot be loaded: .* has SHA-256 .*, the manifest expects"
    ):
        load_pipeline(folder)


def test_the_model_card_may_be_edited(checkpoint_root):
    folder = checkpoint_root / "dirty-002"
    (folder / "README.md").write_text("a card")
    config = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["config"]
    write_manifest(folder, kind="checkpoint", config=config, seed=0, files=[UNET, "README.md"])
    (folder / "README.md").write_text("a better card")
    load_pipeline(folder)


def test_a_root_configuration_does_not_take_the_place_of_the_unet_inside(checkpoint_root):
    folder = checkpoint_root / "dirty-002"
    shutil.copy(folder / "unet" / "config.json", folder)
    assert ModelFolder(folder).component("unet").path == folder / "unet"
    assert read_checkpoint(folder).problem is None
