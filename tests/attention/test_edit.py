"""``edit`` against the attention written out, for every family."""

import numpy as np
import pytest
import torch

from explorer.attention.edit import edit, reweight
from explorer.attention.prompts import denoiser_of, prompt_words
from explorer.attention.record import record

PROMPT = "a photo of a turtle, dog"
FAMILIES = ("sd", "sdxl", "sd3", "flux")


def draw(pipeline, prompt=PROMPT, **options):
    settings = {"height": 32, "width": 32, "num_inference_steps": 2, "guidance_scale": 4.0, "output_type": "np"}
    return pipeline(prompt, generator=torch.Generator().manual_seed(0), **settings | options).images


def hook_count(pipeline):
    modules = denoiser_of(pipeline).modules()
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)


@pytest.mark.parametrize("options", [{}, {"num_images_per_prompt": 2}, {"guidance_scale": 1.0}], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_an_edit_that_changes_nothing_changes_no_bit(pipelines, family, options):
    pipeline, seen = pipelines[family], []

    def same(layer, step, probabilities):
        seen.append((layer, step))
        return probabilities

    plain, hooks = draw(pipeline, **options), hook_count(pipeline)
    with edit(pipeline, PROMPT, same):
        assert np.array_equal(draw(pipeline, **options), plain)
        first = len(seen)
        draw(pipeline, **options)
    assert hook_count(pipeline) == hooks
    assert np.array_equal(draw(pipeline, **options), plain)
    with record(pipeline, PROMPT) as maps:
        draw(pipeline, **options)
    assert set(seen[:first]) == {(layer, step) for layer in maps.cube.layers for step in (0, 1)}
    assert seen[first:] == seen[:first], "steps count from 0 in every generation"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_suppressed_word_has_no_mass_whichever_block_is_inside(pipelines, family):
    pipeline = pipelines[family]
    plain = draw(pipeline)
    with edit(pipeline, PROMPT, {"turtle": 0}), record(pipeline, PROMPT) as inside:
        edited = draw(pipeline)
    with record(pipeline, PROMPT, keep_heads=True) as around, edit(pipeline, PROMPT, {"turtle": 0}):
        draw(pipeline)
    assert not np.array_equal(edited, plain)
    for maps in (inside, around):
        assert maps["turtle"].max() == 0
        assert maps["dog"].min() > 0
    assert torch.allclose(inside["dog"], around["dog"], atol=2e-3)
    with record(pipeline, PROMPT) as after:
        assert np.array_equal(draw(pipeline), plain)
    assert after["turtle"].min() > 0


@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_are_those_of_attention_written_out_with_the_change_in_it(
    pipelines, family, guidance_scale, monkeypatch
):
    pipeline, options = pipelines[family], {"guidance_scale": guidance_scale, "width": 64}
    words = prompt_words(pipeline, PROMPT)
    scale = torch.ones(len(words.matrix))
    scale[list(words.positions[words.words.index("turtle")])] = 3.0
    scale[list(words.positions[words.words.index("dog")])] = 0.0
    guided = guidance_scale > 1 and family != "flux"

    def written_out(query, key, value, *arguments, **keywords):
        probabilities = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
        rows, tokens = slice(len(query) // 2 if guided else 0, None), len(scale)
        if family in {"sd", "sdxl"} and key.shape[2] == tokens:
            probabilities[rows] *= scale
        elif family == "sd3" and key.shape[2] > tokens:  # the image comes first
            probabilities[rows, :, :-tokens, -tokens:] *= scale
        elif family == "flux":  # the text comes first
            probabilities[rows, :, tokens:, :tokens] *= scale
        return probabilities @ value

    plain = draw(pipeline, **options)
    with edit(pipeline, PROMPT, {"turtle": 3, "dog": 0}):
        edited = draw(pipeline, **options)
    functions, name = torch.nn.functional, "scaled_dot_product_attention"
    stock, denoiser = functions.scaled_dot_product_attention, denoiser_of(pipeline)
    handles = [  # text encoders and decoder attend, too
        denoiser.register_forward_pre_hook(lambda module, inputs: monkeypatch.setattr(functions, name, written_out)),
        denoiser.register_forward_hook(lambda module, inputs, output: monkeypatch.setattr(functions, name, stock)),
    ]
    try:
        expected = draw(pipeline, **options)
    finally:
        for handle in handles:
            handle.remove()
    assert np.abs(edited - expected).max() < 1e-5
    assert np.abs(edited - plain).max() > 1e-4, "the change is seen"


@pytest.mark.parametrize("family", ["sd", "flux"])
def test_an_edit_is_undone_after_an_exception_and_bad_ones_are_refused(pipelines, family):
    pipeline = pipelines[family]
    plain, hooks = draw(pipeline), hook_count(pipeline)
    for change, error, message in (
        (lambda layer, step, probabilities: probabilities[:1, :1], ValueError, r"gave \(1, 1, .*: expected probabilit"),
        (lambda layer, step, probabilities: None, ValueError, "gave NoneType: expected probabilities"),
        (lambda layer, step, probabilities: {}[layer], KeyError, "attn"),
        ({"cat": 0}, ValueError, "does not hold 'cat': expected words of"),
        ({"dog": float("nan")}, ValueError, "the factor of 'dog' is nan"),
    ):
        with pytest.raises(error, match=message), edit(pipeline, PROMPT, change):
            draw(pipeline)
        assert hook_count(pipeline) == hooks
    with pytest.raises(ValueError, match="the pipeline draws 'a hat'"), edit(pipeline, PROMPT, {"dog": 2}):
        draw(pipeline, "a hat")
    with (
        edit(pipeline, PROMPT, {"dog": 2}),
        pytest.raises(ValueError, match="being edited already"),
        edit(pipeline, PROMPT, {"dog": 2}),
    ):
        pytest.fail("accepted")
    assert "check_inputs" not in vars(pipeline)
    assert np.array_equal(draw(pipeline), plain)


def test_functions_are_composed_and_reach_single_layers_and_steps(pipelines):
    pipeline = pipelines["sd"]
    words = prompt_words(pipeline, PROMPT)
    suppress = reweight(words, {"dog": 0})
    with record(pipeline, PROMPT) as maps:
        draw(pipeline)
    chosen = list(maps.cube.layers)[1]

    def late(layer, step, probabilities):
        return suppress(layer, step, probabilities) if (layer, step) == (chosen, 1) else probabilities

    with edit(pipeline, words, late), record(pipeline, PROMPT) as edited:
        draw(pipeline)
    zero = {
        (layer, step)
        for layer in edited.cube.layers
        for step in (0, 1)
        if edited.map("dog", layer=layer, step=step).max() == 0
    }
    assert zero == {(chosen, 1)}


def test_a_guided_flux_is_edited_where_it_reads_the_prompt(pipelines):
    pipeline, seen = pipelines["flux"], []
    with edit(pipeline, PROMPT, lambda layer, step, probabilities: seen.append(step) or probabilities):
        draw(pipeline, negative_prompt="a hat", true_cfg_scale=3.0)
    assert seen == [0, 0, 1, 1]


def test_bf16_stays_bit_identical_and_gradients_pass(make_unet, pipelines):
    unet, words = make_unet(), prompt_words(pipelines["sd"], PROMPT)
    sample, text = torch.randn(1, 4, 16, 16), torch.randn(1, 16, 32, requires_grad=True)
    with edit(unet, words, {"dog": 0.5}, guidance=False):
        unet(sample, 500, encoder_hidden_states=text).sample.square().mean().backward()
    assert text.grad.abs().min() > 0
    unet, sample, text = unet.bfloat16(), sample.bfloat16(), text.detach().bfloat16()
    with torch.no_grad():
        plain = unet(sample, 500, encoder_hidden_states=text).sample
        with edit(unet, words, lambda layer, step, probabilities: probabilities, guidance=False):
            assert torch.equal(unet(sample, 500, encoder_hidden_states=text).sample, plain)
