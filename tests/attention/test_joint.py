"""Joint attention of tiny SD3 and Flux transformers against the whole joint softmax, written out eagerly."""

import pytest
import torch
from diffusers.models.attention_processor import FusedJointAttnProcessor2_0

from explorer.attention.capture import capture_attention
from explorer.attention.joint import joint_attention_layers
from tests.attention.tiny_joint_transformers import (
    COLUMNS,
    MODELS,
    TOKENS,
    WIDTH,
    call,
    eager_probabilities,
    inputs,
    make,
    one_hot_groups,
)


def hook_count(transformer):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in transformer.modules())


def check_layers(cube, expected, groups, rows, call_index=lambda step: step):
    (group,) = cube.groups
    assert group.layers == tuple(expected)
    for index, name in enumerate(group.layers):
        for step in range(cube.steps):
            joint = expected[name][call_index(step)][rows]
            assert (joint.sum(-1) - 1).abs().max() < 1e-5
            block = joint[..., :TOKENS]
            share, words = block.sum(-1), block @ groups[:, None]
            found, found_share = group.probabilities[step, index], group.text_share[step, index]
            assert (found_share.flatten(-2) - share).abs().max() < 1e-5, name
            assert (found.flatten(-2) - (words / share[..., None]).mT).abs().max() < 1e-5, name
            assert ((found * found_share[:, :, None]).flatten(-2) - words.mT).abs().max() < 1e-5, name
            assert share.max() - share.min() > 0.02, "a test on uniform attention would prove little"
            assert (words / share[..., None]).amax() > 1.5 / COLUMNS


REQUESTS = {
    "one": {},
    "guided": {"guidance": True},
    "guided, negative": {"guidance": True, "branch": "negative"},
    "batch": {"batch": 3},
    "guided batch, tall": {"batch": 2, "guidance": True, "size": (16, 6)},
}


@pytest.mark.parametrize("request_name", REQUESTS)
@pytest.mark.parametrize("model", MODELS)
def test_every_layer_equals_the_joint_softmax_and_the_output_stays(model, request_name):
    options = {"batch": 1, "guidance": False, "size": (8, 12)} | REQUESTS[request_name]
    height, width = options.pop("size")
    transformer, groups, batch = make(model), one_hot_groups(options["batch"]), options["batch"]
    doubled = options["guidance"] and model.startswith("sd3")
    separate = options["guidance"] and not doubled
    arguments = [
        inputs(transformer, batch * (1 + doubled), height, width, seed) for seed in range(2 * (1 + separate))
    ]  # fmt: skip
    plain, hooks = [call(transformer, each) for each in arguments], hook_count(transformer)
    with (
        capture_attention(transformer, groups, steps=2, dtype=torch.float32, **options) as capture,
        eager_probabilities(transformer) as expected,
    ):
        captured = [call(transformer, each) for each in arguments]
    assert all(torch.equal(one, other) for one, other in zip(plain, captured, strict=True))
    assert hook_count(transformer) == hooks
    cube, negative = capture.cube(), options.get("branch") == "negative"
    assert (capture.calls, cube.steps, cube.resolutions) == (2, 2, ((height // 2, width // 2),))
    rows = slice(batch, None) if doubled and not negative else slice(batch)
    check_layers(cube, expected, groups, rows, lambda step: 2 * step + negative if separate else step)


def test_the_second_attention_of_dual_blocks_is_left_out_and_single_stream_blocks_are_in():
    assert list(joint_attention_layers(make("sd3.5"))) == [f"transformer_blocks.{index}.attn" for index in range(3)]
    assert list(joint_attention_layers(make("flux-dev"))) == [
        *(f"transformer_blocks.{index}.attn" for index in range(2)),
        *(f"single_transformer_blocks.{index}.attn" for index in range(2)),
    ]


@pytest.mark.parametrize("model", ["sd3.5", "flux-dev"])
def test_blocks_of_queries_and_stored_means_give_the_same(model, monkeypatch):
    transformer = make(model)
    arguments, options = inputs(transformer, 1), {"batch": 1, "guidance": False, "steps": 1, "dtype": torch.float32}
    cubes = []
    for limit, keep_heads in ((1 << 24, True), (500, True), (1, False)):
        monkeypatch.setattr("explorer.attention.joint.MAX_SCORE_ELEMENTS", limit)
        with capture_attention(transformer, one_hot_groups(), keep_heads=keep_heads, **options) as capture:
            call(transformer, arguments)
        cubes.append(capture.cube())
    whole, blocks, means = cubes
    assert (whole.groups[0].probabilities - blocks.groups[0].probabilities).abs().max() < 1e-6
    assert means.groups[0].heads == 1 < whole.groups[0].heads
    assert (whole.maps() - means.maps()).abs().max() < 1e-6
    assert (whole.text_share() - means.text_share()).abs().max() < 1e-6
    assert (whole.maps(layer=1, head=1) - whole.maps(layer=1)).abs().max() > 1e-3


@pytest.mark.parametrize("model", MODELS)
def test_maps_sum_to_one_and_the_share_can_be_left_out(model):
    transformer = make(model)
    arguments, options = inputs(transformer, 2), {"batch": 2, "guidance": False, "steps": 1}
    with capture_attention(transformer, one_hot_groups(2), **options) as capture:
        call(transformer, arguments)
        call(transformer, arguments)
    cube = capture.cube()
    assert cube.steps == 2
    assert cube.groups[0].probabilities.dtype == cube.groups[0].text_share.dtype == torch.float16
    assert (cube.maps(image=1).sum(0) - 1).abs().max() < 2e-3
    share = cube.text_share((16, 24), image=1)
    assert share.shape == (16, 24)
    assert 0 < share.min() < share.max() < 1
    with capture_attention(transformer, one_hot_groups(2), text_share=False, **options) as capture:
        call(transformer, arguments)
    assert torch.equal(capture.cube().maps(step=0), cube.maps(step=0))
    with pytest.raises(ValueError, match="no text share was captured"):
        capture.cube().text_share()


@pytest.mark.parametrize("model", ["sd3.5", "flux-dev"])
def test_bf16_stays_bit_identical_and_close_to_the_softmax_of_its_own_queries(model):
    transformer = make(model).bfloat16()
    arguments = {
        name: value.bfloat16() if torch.is_tensor(value) else value for name, value in inputs(transformer, 1).items()
    }
    plain = call(transformer, arguments)
    options = {"batch": 1, "guidance": False, "steps": 1, "dtype": torch.float32}
    with capture_attention(transformer, one_hot_groups(), **options) as capture:
        assert torch.equal(call(transformer, arguments), plain)
    assert (capture.cube().maps().sum(0) - 1).abs().max() < 1e-5


def test_image_tokens_are_counted_exactly_in_bf16():
    """526 is no number of bf16, and neither is 17 x 31 = 527."""
    transformer = make("flux-dev").bfloat16()
    arguments = {
        name: value.bfloat16() if torch.is_tensor(value) else value
        for name, value in inputs(transformer, 1, 34, 62).items()
    }
    options = {"batch": 1, "guidance": False, "steps": 1}
    with capture_attention(transformer, one_hot_groups(), **options) as capture:
        call(transformer, arguments)
    assert capture.cube().resolutions == ((17, 31),)
    short = {"hidden_states": arguments["hidden_states"][:, 1:], "img_ids": arguments["img_ids"][1:]}
    with (
        capture_attention(transformer, one_hot_groups(), **options),
        pytest.raises(ValueError, match="reads 526 image tokens, their ids span 17 x 31"),
    ):
        call(transformer, arguments | short)


def test_the_further_call_of_skip_layer_guidance_is_not_captured():
    transformer = make("sd3.5")
    with capture_attention(transformer, one_hot_groups(), batch=1, guidance=True, steps=1) as capture:
        call(transformer, inputs(transformer, 2))
        call(transformer, inputs(transformer, 1) | {"skip_layers": [1]})
    assert capture.calls == 1


def test_two_transformers_are_captured_side_by_side():
    first, second = make("sd3", 0), make("flux-dev", 1)
    options = {"batch": 1, "guidance": False, "steps": 1}
    with (
        capture_attention(first, one_hot_groups(), **options) as left,
        capture_attention(second, one_hot_groups(), **options) as right,
    ):
        call(second, inputs(second, 1))
        call(first, inputs(first, 1))
    with capture_attention(first, one_hot_groups(), **options) as alone:
        call(first, inputs(first, 1))
    assert torch.equal(left.cube().maps(), alone.cube().maps())
    assert not torch.equal(left.cube().maps(), right.cube().maps())


def test_fused_flux_is_captured_and_fused_sd3_is_refused():
    transformer = make("flux-dev")
    arguments, options = inputs(transformer, 1), {"batch": 1, "guidance": False, "steps": 1, "dtype": torch.float32}
    cubes = []
    for _ in range(2):
        with capture_attention(transformer, one_hot_groups(), **options) as capture:
            call(transformer, arguments)
        cubes.append(capture.cube())
        transformer.fuse_qkv_projections()
    assert transformer.transformer_blocks[0].attn.fused_projections
    assert (cubes[0].maps() - cubes[1].maps()).abs().max() < 1e-5
    fused = make("sd3")
    fused.fuse_qkv_projections()
    assert isinstance(fused.transformer_blocks[0].attn.processor, FusedJointAttnProcessor2_0)
    with pytest.raises(ValueError, match=r"transformer_blocks.0.attn computes its attention by FusedJointAttn"):
        joint_attention_layers(fused)


def test_projections_fused_later_do_not_give_silent_empty_maps():
    transformer = make("sd3")
    with capture_attention(transformer, one_hot_groups(), batch=1, guidance=False, steps=1):
        transformer.fuse_qkv_projections()
        with pytest.raises(RuntimeError, match="its projections are bypassed"):
            call(transformer, inputs(transformer, 1))


@pytest.mark.parametrize(
    ("changes", "rows", "message"),
    [
        ({}, 3, "called with 3 rows: expected 1"),
        ({"encoder_hidden_states": torch.zeros(1, TOKENS - 1, WIDTH)}, 1, "reads 10 text tokens: groups have 11"),
        ({"img_ids": torch.ones(24, 3)}, 1, "reads 24 image tokens, their ids span 2 x 2"),
        ({"joint_attention_kwargs": {"attention_mask": torch.ones(1)}}, 1, "an attention mask is given"),
    ],
)
def test_calls_that_do_not_fit_are_refused_and_leave_no_hooks(changes, rows, message):
    transformer = make("flux-dev")
    hooks = hook_count(transformer)
    with (
        pytest.raises(ValueError, match=message),
        capture_attention(transformer, one_hot_groups(), batch=1, guidance=False, steps=1),
    ):
        call(transformer, inputs(transformer, rows) | changes)
    assert hook_count(transformer) == hooks


def test_other_arguments_are_refused(make_unet):
    transformer, options = make("sd3"), {"batch": 1, "guidance": False, "steps": 1}
    with (
        pytest.raises(ValueError, match="they are a U-Net's"),
        capture_attention(transformer, one_hot_groups(), attentions=("attn1",), **options),
    ):
        pytest.fail("accepted")
    with pytest.raises(ValueError, match="UNet2DConditionModel is given: expected one of SD3Transformer2DModel"):
        joint_attention_layers(make_unet())
    with (
        capture_attention(transformer, one_hot_groups(), **options) as capture,
        pytest.raises(ValueError, match="the transformer was not called"),
    ):
        capture.cube()
