import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

from explorer.models.checkpoints import scan_checkpoints, validate
from explorer.models.pipelines import load_pipeline

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
