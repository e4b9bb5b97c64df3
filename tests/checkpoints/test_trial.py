"""A checkpoint that is ready draws: what does not is told at listing or by the thorough check, in a sentence."""

import json
import logging

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, PNDMScheduler
from safetensors.torch import load_file, save_file

from explorer.checkpoints.components import load_component
from explorer.checkpoints.model_folder import ModelFolder
from explorer.checkpoints.pipelines import load_pipeline
from explorer.checkpoints.reasons import NotEnoughMemoryError, cannot_draw, enough_memory
from explorer.checkpoints.registry import read_checkpoint, scan_checkpoints, validate
from explorer.generation.generate import GenerationRequest, generate

REQUEST = GenerationRequest(prompt="a photo of a dog", seed=1, steps=2)
TOKENIZER = "tokenizer/tokenizer_config.json"


def edit(path, **changes):
    found = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in found.items() if value is not ...}))


def thorough(folder):
    return validate(read_checkpoint(folder), thorough=True).problem


def test_every_kind_draws(checkpoint_root):
    found = [validate(checkpoint, thorough=True) for checkpoint in scan_checkpoints(checkpoint_root)]
    assert [(checkpoint.kind, checkpoint.problem) for checkpoint in found] == [
        ("pipeline", None), ("unet", None), ("unet", None)
    ]  # fmt: skip


@pytest.mark.parametrize("bare", [True, False])
def test_a_tokenizer_without_a_length_takes_that_of_its_text_encoder_and_says_so(make_pipeline, tmp_path, caplog, bare):
    folder = tmp_path / "sd"
    make_pipeline().save_pretrained(folder)
    expected = generate(load_pipeline(folder), REQUEST)
    if bare:  # vocabulary and merges alone, as old repositories have them
        model = json.loads((folder / "tokenizer" / "tokenizer.json").read_text())["model"]
        for path in (folder / "tokenizer").iterdir():
            path.unlink()
        (folder / "tokenizer" / "vocab.json").write_text(json.dumps(model["vocab"]))
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
        (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges))
    else:
        edit(folder / TOKENIZER, model_max_length=...)
    with caplog.at_level(logging.WARNING):
        pipeline = load_pipeline(folder)
    assert "tokenizer states no length: taken to be the 16 positions of text_encoder" in caplog.text
    assert pipeline.tokenizer.model_max_length == 16
    assert np.array_equal(generate(pipeline, REQUEST).images, expected.images)
    assert thorough(folder) is None


@pytest.mark.parametrize(
    ("name", "changes", "problem"),
    [
        (TOKENIZER, {"model_max_length": 77}, "tokenizer/ makes texts of 77 tokens: text_encoder/ reads 16 at most"),
        (TOKENIZER, {"model_max_length": "x"}, "model_max_length is 'x': expected a whole number"),
        (TOKENIZER, {"model_max_length": -1}, "model_max_length is -1: expected a whole number"),
        ("unet/config.json", {"in_channels": 9}, "unet reads 9 channels: its pipeline expects 4"),
        ("unet/config.json", {"out_channels": 8}, "unet gives 8 channels: its pipeline expects 4"),
        ("unet/config.json", {"cross_attention_dim": 48}, "unet reads text of width 48: its text encoders give 32"),
        ("unet/config.json", {"num_class_embeds": 10}, "asks for a class of pictures"),
        ("unet/config.json", {"sample_size": None}, "says sample_size None: expected the side of its latents"),
        ("vae/config.json", {"in_channels": 4}, "says in_channels 4: pictures have 3"),
    ],
)
def test_parts_that_do_not_fit_are_told_at_listing(make_pipeline, tmp_path, name, changes, problem):
    make_pipeline().save_pretrained(tmp_path / "sd")
    edit(tmp_path / "sd" / name, **changes)
    (found,) = scan_checkpoints(tmp_path)
    assert problem in found.problem
    with pytest.raises(ValueError, match="checkpoint sd cannot be loaded"):
        load_pipeline(tmp_path / "sd")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"sample_size": 15}, "it cannot draw: height is 60: this model takes multiples of 8"),
        ({"encoder_hid_dim": 16, "encoder_hid_dim_type": "text_proj"}, "it cannot draw: "),
        ({"addition_embed_type": "text_time", "addition_time_embed_dim": 8,
          "projection_class_embeddings_input_dim": 80}, "it cannot draw: "),
    ],
)  # fmt: skip
def test_what_only_drawing_shows_is_told_by_the_thorough_check(make_pipeline, tmp_path, options, problem):
    make_pipeline(**options).save_pretrained(tmp_path / "sd")
    assert thorough(tmp_path / "sd").startswith(problem)
    with pytest.raises(ValueError, match=r"cannot draw this|multiples of 8"):
        generate(load_pipeline(tmp_path / "sd"), REQUEST)


def test_a_unet_on_a_base_that_cannot_feed_it_is_told(checkpoint_root, make_unet):
    options = {"encoder_hid_dim": 16, "encoder_hid_dim_type": "text_proj"}
    make_unet(**options).save_pretrained(checkpoint_root / "dirty-002" / "unet")
    assert thorough(checkpoint_root / "dirty-002").startswith("it cannot draw: ")
    assert thorough(checkpoint_root / "benign") is None


def test_an_autoencoder_of_other_channels_is_told(make_pipeline, tmp_path):
    pipeline = make_pipeline()
    config = {**pipeline.vae.config, "latent_channels": 8}
    pipeline.register_modules(vae=AutoencoderKL.from_config(config))
    pipeline.save_pretrained(tmp_path / "sd")
    assert "unet reads 4 channels: its pipeline expects 8" in scan_checkpoints(tmp_path)[0].problem


def test_a_sampler_that_needs_more_than_one_step_is_tried_with_more(make_pipeline, tmp_path):
    pipeline = make_pipeline()
    pipeline.scheduler = PNDMScheduler(steps_offset=1)
    pipeline.save_pretrained(tmp_path / "sd")
    assert thorough(tmp_path / "sd") is None


def test_values_that_a_library_would_invent_are_missed(make_pipeline, tmp_path):
    """transformers draws weights that a file lacks at random, and says so in a log."""
    make_pipeline().save_pretrained(tmp_path / "sd")
    path = tmp_path / "sd" / "text_encoder" / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("layer_norm1.bias"))
    old = name.replace("layer_norm1.bias", "layer_norm1.beta")  # as LayerNorm was named in old files
    save_file({old if each == name else each: tensor for each, tensor in tensors.items()}, path, {"format": "pt"})
    with pytest.raises(ValueError, match=r"cannot be loaded as CLIPTextModel: its files lack .*layer_norm1\.bias"):
        load_component(ModelFolder(tmp_path / "sd" / "text_encoder"), "CLIPTextModel", torch.float32)
    assert "layer_norm1.bias" in thorough(tmp_path / "sd")


def test_fp8_weights_are_drawn_from_as_their_values_are(make_pipeline, tmp_path):
    make_pipeline().save_pretrained(tmp_path / "sd")
    path = tmp_path / "sd" / "unet" / "diffusion_pytorch_model.safetensors"
    half = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in load_file(path).items()}
    save_file(half, path, {"format": "pt"})
    problem = thorough(tmp_path / "sd")
    if problem is None:
        loaded = load_pipeline(tmp_path / "sd")
        assert all(torch.equal(tensor, half[name].float()) for name, tensor in loaded.unet.state_dict().items())
        assert generate(loaded, REQUEST).images.any()
    else:  # refused with the other dtypes
        with pytest.raises(ValueError, match="cannot be loaded"):
            load_pipeline(tmp_path / "sd")


def test_too_little_memory_is_not_taken_for_ready(checkpoint_root, monkeypatch):
    monkeypatch.setattr("explorer.checkpoints.trial.free_bytes", lambda device: 1e6)
    assert "whether it draws could not be tried: that takes" in thorough(checkpoint_root / "benign")


def test_whatever_fails_while_a_model_draws_names_it():
    with pytest.raises(ValueError, match="model x cannot draw this: CUDA out of memory"), cannot_draw("x"):
        raise torch.OutOfMemoryError("CUDA out of memory\nmore")
    with pytest.raises(KeyError), cannot_draw("x", KeyError):
        raise KeyError("passed on")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB\nmore"),
        MemoryError("Unable to allocate 9 GiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:75] . DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_a_lack_of_memory_says_what_can_be_changed(error):
    @enough_memory("ten pictures", "fewer")
    def work():
        raise error

    for _ in range(2):
        with pytest.raises(
            NotEnoughMemoryError, match=r"^memory does not suffice for ten pictures \(.*\): expected fewer"
        ):
            work()


def test_what_is_no_lack_of_memory_passes():
    with pytest.raises(RuntimeError, match="shapes"), enough_memory("ten pictures", "fewer"):
        raise RuntimeError("shapes do not fit")
