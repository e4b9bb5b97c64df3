"""Joint attention of tiny SD3 and Flux transformers against the whole joint softmax, written out eagerly."""

from contextlib import contextmanager

import pytest
import torch
from diffusers.models.attention_processor import FusedJointAttnProcessor2_0, JointAttnProcessor2_0
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor

from explorer.attention.capture import capture_attention
from explorer.attention.joint import joint_attention_layers

TOKENS, WIDTH, POOLED, COLUMNS = 11, 24, 20, 4
SD3_VARIANTS = {
    "sd3": {},
    "sd3.5": {"qk_norm": "rms_norm", "dual_attention_layers": (0, 1)},
}
FLUX_VARIANTS = {"flux-dev": {"guidance_embeds": True}, "flux-schnell": {"guidance_embeds": False}}


def make_sd3(seed=0, **config):
    from diffusers import SD3Transformer2DModel

    torch.manual_seed(seed)
    sizes = {"num_layers": 3, "attention_head_dim": 8, "num_attention_heads": 3, "caption_projection_dim": 24}
    texts = {"joint_attention_dim": WIDTH, "pooled_projection_dim": POOLED}
    latents = {"sample_size": 16, "patch_size": 2, "in_channels": 4, "out_channels": 4, "pos_embed_max_size": 16}
    return sharpened(SD3Transformer2DModel(**(sizes | texts | latents | config)))


def make_flux(seed=0, **config):
    from diffusers import FluxTransformer2DModel

    torch.manual_seed(seed)
    sizes = {"num_layers": 2, "num_single_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2}
    texts = {"joint_attention_dim": WIDTH, "pooled_projection_dim": POOLED}
    latents = {"patch_size": 1, "in_channels": 16, "axes_dims_rope": (4, 6, 6)}
    return sharpened(FluxTransformer2DModel(**(sizes | texts | latents | config)))


def sharpened(transformer):
    """Random initialisation gives nearly uniform attention and norms of one; neither would show a mistake."""
    for name, parameter in transformer.named_parameters():
        if name.endswith(("to_q.weight", "to_k.weight", "add_q_proj.weight", "add_k_proj.weight")):
            parameter.data *= 3
        if ".attn.norm_" in name:
            parameter.data = 1.5 + torch.rand_like(parameter)
    return transformer.eval()


MODELS = {
    name: (make_sd3 if name.startswith("sd3") else make_flux, config)
    for name, config in (SD3_VARIANTS | FLUX_VARIANTS).items()
}


def make(name, seed=0):
    build, config = MODELS[name]
    return build(seed, **config)


def inputs(transformer, rows, height=8, width=12, seed=1):
    """Arguments of a call on latents of ``height x width``."""
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(rows, 4, height, width, generator=generator)
    text = torch.randn(rows, TOKENS, WIDTH, generator=generator) * 2
    arguments = {
        "encoder_hidden_states": text,
        "pooled_projections": torch.randn(rows, POOLED, generator=generator),
        "timestep": torch.full((rows,), 0.7),
    }
    if type(transformer).__name__ == "SD3Transformer2DModel":
        return arguments | {"hidden_states": latents, "timestep": torch.full((rows,), 700.0)}
    from diffusers import FluxPipeline

    ids = FluxPipeline._prepare_latent_image_ids(rows, height // 2, width // 2, "cpu", torch.float32)
    guidance = torch.full((rows,), 3.5) if transformer.config.guidance_embeds else None
    packed = FluxPipeline._pack_latents(latents, rows, 4, height, width)
    return arguments | {
        "hidden_states": packed, "img_ids": ids, "txt_ids": torch.zeros(TOKENS, 3), "guidance": guidance
    }  # fmt: skip


def call(transformer, arguments):
    with torch.no_grad():
        return transformer(**arguments).sample


def one_hot_groups(rows=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    column = torch.randint(COLUMNS, (rows, TOKENS), generator=generator)
    return torch.nn.functional.one_hot(column, COLUMNS).float()


def heads_first(projected, heads):
    return projected.unflatten(-1, (heads, -1)).transpose(1, 2)


class EagerSD3(JointAttnProcessor2_0):
    """Keeps the joint softmax of the same input over all keys, then runs the stock processor."""

    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, **options):
        query, key = (heads_first(projection(hidden_states), attn.heads) for projection in (attn.to_q, attn.to_k))
        text = heads_first(attn.add_k_proj(encoder_hidden_states), attn.heads)
        if attn.norm_q is not None:
            query, key, text = attn.norm_q(query), attn.norm_k(key), attn.norm_added_k(text)
        scores = query @ torch.cat([text, key], dim=2).mT / query.shape[-1] ** 0.5
        self.calls.append(scores.softmax(-1))
        return super().__call__(attn, hidden_states, encoder_hidden_states, **options)


class EagerFlux(FluxAttnProcessor):
    """As ``EagerSD3``; text comes first in a double-stream block as in a single-stream block."""

    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, image_rotary_emb=None):
        query = attn.norm_q(heads_first(attn.to_q(hidden_states), attn.heads))
        key = attn.norm_k(heads_first(attn.to_k(hidden_states), attn.heads))
        if encoder_hidden_states is not None:
            text_query = attn.norm_added_q(heads_first(attn.add_q_proj(encoder_hidden_states), attn.heads))
            text_key = attn.norm_added_k(heads_first(attn.add_k_proj(encoder_hidden_states), attn.heads))
            query, key = torch.cat([text_query, query], dim=2), torch.cat([text_key, key], dim=2)
        query, key = apply_rotary_emb(query, image_rotary_emb), apply_rotary_emb(key, image_rotary_emb)
        probabilities = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
        self.calls.append(probabilities[:, :, TOKENS:])
        return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb)


@contextmanager
def eager_probabilities(transformer):
    """``{layer: [one tensor a call, [rows, heads, image positions, text and then image keys]]}``."""
    layers = joint_attention_layers(transformer)
    calls = {name: [] for name in layers}
    processors = {name: layer.processor for name, layer in layers.items()}
    for name, layer in layers.items():
        kind = EagerSD3 if isinstance(layer.processor, JointAttnProcessor2_0) else EagerFlux
        layer.processor = kind(calls[name])
    yield calls
    for name, layer in layers.items():
        layer.processor = processors[name]


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
