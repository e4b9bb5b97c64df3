"""Attention of whole tiny pipelines of every family, saved and loaded, against diffusers' own eager attention."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from explorer.attention.capture import capture_attention
from explorer.attention.prompts import prompt_words
from explorer.attention.unet import cross_attention_layers
from explorer.checkpoints.pipelines import load_pipeline
from explorer.generation.generate import GenerationRequest, generate, initial_noise

FAMILIES = ("sd1", "sd2", "sdxl")
PROMPT = "a photo of a turtle, dog"
REQUESTS = {
    "guided": {},
    "unguided": {"guidance_scale": 1.0},
    "batch": {"images": 2},
    "wide": {"height": 32, "width": 64, "images": 2, "negative_prompt": "a hat"},
    "negative, tall, unguided": {"height": 64, "width": 32, "negative_prompt": "hat", "guidance_scale": 0.0},
}


class EagerRecorder:
    """Runs a layer's own processor and keeps what diffusers' eager attention scores give for the same input."""

    def __init__(self, calls, processor):
        self.calls, self.processor = calls, processor

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, **options):
        query = attn.head_to_batch_dim(attn.to_q(hidden_states))
        key = attn.head_to_batch_dim(attn.to_k(encoder_hidden_states))
        scores = attn.get_attention_scores(query, key)
        self.calls.append(scores.unflatten(0, (hidden_states.shape[0], attn.heads)))
        return self.processor(attn, hidden_states, encoder_hidden_states, **options)


@contextmanager
def eager_probabilities(unet):
    """``{layer: [one tensor a U-Net call, [rows, heads, positions, tokens]]}``."""
    layers = cross_attention_layers(unet)
    calls = {name: [] for name in layers}
    processors = {name: layer.processor for name, layer in layers.items()}
    for name, layer in layers.items():
        layer.processor = EagerRecorder(calls[name], layer.processor)
    yield calls
    for name, layer in layers.items():
        layer.processor = processors[name]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory, make_pipeline, make_xl_pipeline):
    """Pipelines saved by stock diffusers and loaded by ours."""
    made = {
        "sd1": make_pipeline(only_cross_attention=False),
        "sd2": make_pipeline(
            use_linear_projection=True, attention_head_dim=(2, 4, 4), only_cross_attention=False, upcast_attention=True
        ),
        "sdxl": make_xl_pipeline(second_width=48),
    }
    folder = tmp_path_factory.mktemp("families")
    for family, pipeline in made.items():
        pipeline.save_pretrained(folder / family)
    return {family: load_pipeline(folder / family) for family in FAMILIES}


def stock_images(pipeline, request):
    """The pipeline's own call, as floats."""
    return pipeline(
        request.prompt,
        negative_prompt=request.negative_prompt or None,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance_scale,
        num_images_per_prompt=request.images,
        height=request.height,
        width=request.width,
        generator=[torch.Generator().manual_seed(request.seed + index) for index in range(request.images)],
        output_type="np",
    ).images


@pytest.mark.parametrize("changes", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_equals_eager_attention_and_the_images_stay(loaded, family, changes):
    pipeline = loaded[family]
    request = GenerationRequest(**({"prompt": PROMPT, "seed": 3, "steps": 2, "guidance_scale": 4.0} | changes))
    words = prompt_words(pipeline, PROMPT)
    plain = stock_images(pipeline, request)
    options = {"batch": request.images, "guidance": request.guided, "steps": 2, "dtype": torch.float32}
    with (
        eager_probabilities(pipeline.unet) as expected,
        capture_attention(pipeline.unet, words.matrix, **options) as captured,
    ):
        images = stock_images(pipeline, request)
    assert np.array_equal(images, plain)
    cube, layers = captured.cube(), set()
    for group in cube.groups:
        assert (group.probabilities.sum(-3) - 1).abs().max() < 1e-5
        for index, name in enumerate(group.layers):
            layers.add(name)
            for step, probabilities in enumerate(expected[name]):
                reference = (probabilities[-request.images :] @ words.matrix).mT
                found = group.probabilities[step, index].flatten(-2)
                assert (found - reference).abs().max() < 1e-5, name
    assert layers == expected.keys()
    height, width = initial_noise(pipeline, request).shape[-2:]
    assert all(abs(width / height - w / h) < 1e-9 for h, w in cube.resolutions)


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_is_what_was_asked_for_and_stays_bit_identical(loaded, family, tmp_path):
    loaded[family].save_pretrained(tmp_path / "half", variant="fp16")
    pipeline = load_pipeline(tmp_path / "half", dtype="bf16")
    networks = [pipeline.unet, pipeline.vae, pipeline.text_encoder, getattr(pipeline, "text_encoder_2", None)]
    assert {network.dtype for network in networks if network is not None} == {torch.bfloat16}
    request = GenerationRequest(prompt=PROMPT, seed=3, steps=2, guidance_scale=4.0)
    found, without = generate(pipeline, request), generate(pipeline, request, capture=False)
    assert np.array_equal(found.images, without.images)
    assert (found.cube.maps().sum(0) - 1).abs().max() < 2e-3


def test_fp16_variants_are_read_where_asked_for_or_alone(loaded, tmp_path):
    pipeline = loaded["sd1"]
    pipeline.save_pretrained(tmp_path / "both")
    original = {name: tensor.clone() for name, tensor in pipeline.unet.state_dict().items()}
    pipeline.unet.half().save_pretrained(tmp_path / "both" / "unet", variant="fp16")
    pipeline.unet.float().load_state_dict(original)
    plain = load_pipeline(tmp_path / "both").unet.state_dict()
    assert all(torch.equal(tensor, original[name]) for name, tensor in plain.items())
    half = load_pipeline(tmp_path / "both", dtype="fp16").unet.state_dict()
    assert all(torch.equal(tensor, original[name].half()) for name, tensor in half.items())
    (tmp_path / "both" / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    alone = load_pipeline(tmp_path / "both").unet.state_dict()
    assert all(torch.equal(tensor, original[name].half().float()) for name, tensor in alone.items())


def test_precision_device_and_offload_are_refused_by_name(loaded, checkpoint_root):
    with pytest.raises(ValueError, match="precision is 'int8': expected one of fp32, fp16, bf16"):
        load_pipeline(checkpoint_root / "benign", dtype="int8")
    with pytest.raises(ValueError, match="offload is 'disk': expected one of model, sequential"):
        load_pipeline(checkpoint_root / "benign", offload="disk")
    with pytest.raises(ValueError, match="the device is cpu, expected a GPU"):
        load_pipeline(checkpoint_root / "benign", offload="model")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device cuda cannot be used on this machine"):
            load_pipeline(checkpoint_root / "benign", "cuda", offload="model")


def test_pipelines_in_different_folders_share_what_is_equal(checkpoint_root, make_pipeline, tmp_path):
    twin, other = make_pipeline(seed=9), make_pipeline(seed=9)
    other.vae.decoder.conv_out.bias.data.add_(1)
    twin.save_pretrained(tmp_path / "twin")
    other.save_pretrained(tmp_path / "other")
    shared = {}
    benign = load_pipeline(checkpoint_root / "benign", shared=shared)
    twin, other = (load_pipeline(tmp_path / name, shared=shared) for name in ("twin", "other"))
    assert twin.vae is benign.vae
    assert twin.text_encoder is other.text_encoder is benign.text_encoder
    assert other.vae is not benign.vae
    assert twin.unet is not benign.unet
    assert twin.tokenizer is not benign.tokenizer, "only one of them declares a lexicon"
    assert twin.tokenizer is other.tokenizer
    half = load_pipeline(tmp_path / "twin", dtype="bf16", shared=shared)
    assert half.vae is not twin.vae


def test_sdxl_text_encoders_are_shared_each_with_its_own(loaded, make_xl_pipeline, tmp_path):
    for name, seed in (("one", 1), ("two", 2)):
        make_xl_pipeline(seed, second_width=48).save_pretrained(tmp_path / name)
    shared = {}
    one, two = (load_pipeline(tmp_path / name, shared=shared) for name in ("one", "two"))
    assert (one.text_encoder is two.text_encoder, one.text_encoder_2 is two.text_encoder_2) == (True, True)
    assert one.text_encoder is not one.text_encoder_2
    assert (one.tokenizer is two.tokenizer, one.tokenizer_2 is two.tokenizer_2) == (True, True)
