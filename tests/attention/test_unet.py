from contextlib import contextmanager

import pytest
import torch

from explorer.attention.capture import capture_attention
from explorer.attention.unet import cross_attention_layers

TOKENS, WIDTH, COLUMNS = 16, 32, 4


def one_hot_groups(columns=COLUMNS, rows=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    column = torch.randint(columns, (rows, TOKENS), generator=generator)
    return torch.nn.functional.one_hot(column, columns).float()


def inputs(rows=2, height=16, width=16, seed=1):
    generator = torch.Generator().manual_seed(seed)
    sample = torch.randn(rows, 4, height, width, generator=generator)
    return sample, torch.randn(rows, TOKENS, WIDTH, generator=generator) * 2


def call(unet, sample, text, timestep=500):
    with torch.no_grad():
        return unet(sample, timestep, encoder_hidden_states=text).sample


class EagerRecorder:
    """Runs a layer's own processor (SDPA) and keeps diffusers' eager probabilities of the same input."""

    def __init__(self, store, name, processor):
        self.store, self.name, self.processor = store, name, processor

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, **options):
        query = attn.head_to_batch_dim(attn.to_q(hidden_states))
        key = attn.head_to_batch_dim(attn.to_k(encoder_hidden_states))
        probabilities = attn.get_attention_scores(query, key)
        self.store[self.name] = probabilities.unflatten(0, (hidden_states.shape[0], attn.heads))
        return self.processor(attn, hidden_states, encoder_hidden_states, **options)


@contextmanager
def eager_probabilities(unet):
    store, layers = {}, cross_attention_layers(unet)
    processors = {name: layer.processor for name, layer in layers.items()}
    for name, layer in layers.items():
        layer.processor = EagerRecorder(store, name, layer.processor)
    yield store
    for name, layer in layers.items():
        layer.processor = processors[name]


def hook_count(unet):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in unet.modules())


def captured_layers(cube):
    """``{layer: [steps, images, heads, W, h, w]}``."""
    return {name: group.probabilities[:, index] for group in cube.groups for index, name in enumerate(group.layers)}


@pytest.mark.parametrize(
    ("batch", "guidance", "branch", "size"),
    [
        (1, True, "positive", (16, 16)),
        (1, True, "negative", (16, 16)),
        (1, False, "positive", (16, 16)),
        (3, True, "positive", (16, 16)),
        (2, False, "positive", (8, 24)),
        (1, True, "positive", (12, 20)),
    ],
)
def test_equals_eager_probabilities(make_unet, batch, guidance, branch, size):
    unet, groups = make_unet(), one_hot_groups(rows=batch)
    sample, text = inputs(batch * (1 + guidance), *size)
    options = {"batch": batch, "guidance": guidance, "branch": branch, "dtype": torch.float32}
    with (
        eager_probabilities(unet) as expected,
        capture_attention(unet, groups, steps=1, **options) as capture,
    ):
        call(unet, sample, text)
    found = captured_layers(capture.cube())
    assert found.keys() == expected.keys()
    rows = slice(batch, None) if guidance and branch == "positive" else slice(batch)
    for name, probabilities in expected.items():
        words = (probabilities[rows] @ groups[:, None]).mT.unflatten(-1, found[name].shape[-2:])
        assert (found[name][0] - words).abs().max() < 1e-5
        assert probabilities.amax() > 1.5 / TOKENS, "a test on uniform attention would prove little"


@pytest.mark.parametrize(
    "config",
    [
        {"attention_head_dim": (2, 4, 4)},
        {"use_linear_projection": True, "transformer_layers_per_block": (1, 2, 1)},
        {"upcast_attention": True, "layers_per_block": 2},
    ],
    ids=["heads differ by block", "linear projections, depth differs", "two layers a block"],
)
def test_equals_eager_probabilities_on_shapes_of_other_families(make_unet, config):
    unet, groups = make_unet(**config), one_hot_groups()
    sample, text = inputs()
    options = {"batch": 1, "guidance": True, "dtype": torch.float32}
    with (
        eager_probabilities(unet) as expected,
        capture_attention(unet, groups, steps=1, **options) as capture,
    ):
        call(unet, sample, text)
    for name, found in captured_layers(capture.cube()).items():
        assert (found[0].flatten(-2) - (expected[name][1:] @ groups).mT).abs().max() < 1e-5


def test_every_attention_that_reads_the_text_is_captured_whatever_its_name(make_unet):
    unet = make_unet()
    read = set()

    def notes_text(name):
        def hook(module, inputs, keywords):
            if keywords.get("encoder_hidden_states") is not None:
                read.add(name)

        return hook

    attentions = {name: module for name, module in unet.named_modules() if name.rpartition(".")[2].startswith("attn")}
    for name, module in attentions.items():
        module.register_forward_pre_hook(notes_text(name), with_kwargs=True)
    with capture_attention(unet, one_hot_groups(), batch=1, guidance=True, steps=1) as capture:
        call(unet, *inputs())
    assert set(capture.cube().layers) == read
    assert any(name.endswith("attn1") for name in read)
    assert set(attentions) - read, "this U-Net was chosen because some of its attn1 are self-attention"


def test_one_kind_of_attention_is_captured_on_request(make_unet):
    unet = make_unet()
    first = cross_attention_layers(unet, ("attn1",))
    assert first
    assert all(name.startswith(("down_blocks.0", "up_blocks.2")) for name in first)
    with capture_attention(unet, one_hot_groups(), batch=1, guidance=True, steps=1, attentions=("attn1",)) as capture:
        call(unet, *inputs())
    assert set(capture.cube().layers) == set(first)


def test_chunks_of_layers_give_the_same(make_unet, monkeypatch):
    unet, (sample, text) = make_unet(layers_per_block=2), inputs()
    cubes = []
    for limit in (1 << 24, 1):
        monkeypatch.setattr("explorer.attention.unet.MAX_SCORE_ELEMENTS", limit)
        with capture_attention(unet, one_hot_groups(), batch=1, guidance=True, steps=1) as capture:
            call(unet, sample, text)
        cubes.append(captured_layers(capture.cube()))
    for name, found in cubes[0].items():
        assert torch.equal(found, cubes[1][name])


def test_columns_sum_to_one_at_every_position(make_unet):
    unet, (sample, text) = make_unet(), inputs()
    with capture_attention(unet, one_hot_groups(), batch=1, guidance=True, steps=1) as capture:
        call(unet, sample, text)
    for group in capture.cube().groups:
        assert group.probabilities.dtype == torch.float16
        assert (group.probabilities.float().sum(-3) - 1).abs().max() < 2e-3


def test_output_is_bit_identical_and_hooks_are_gone(make_unet):
    unet, (sample, text) = make_unet(), inputs()
    before, hooks = call(unet, sample, text), hook_count(unet)
    with capture_attention(unet, one_hot_groups(), batch=1, guidance=True, steps=1):
        during = call(unet, sample, text)
        assert hook_count(unet) > hooks
    assert torch.equal(before, during)
    assert hook_count(unet) == hooks


def test_hooks_are_gone_after_an_exception(make_unet):
    unet, hooks = make_unet(), hook_count(make_unet())
    with pytest.raises(KeyError), capture_attention(unet, one_hot_groups(), batch=1, guidance=True, steps=1):
        raise KeyError
    assert hook_count(unet) == hooks
    with (
        pytest.raises(ValueError, match="called with 3 rows: expected 2"),
        capture_attention(unet, one_hot_groups(), batch=1, guidance=True, steps=1),
    ):
        call(unet, *inputs(rows=3))
    assert hook_count(unet) == hooks


def test_unet_calls_are_counted_beyond_the_steps_expected(make_unet):
    unet, (sample, text) = make_unet(), inputs()
    with capture_attention(unet, one_hot_groups(), batch=1, guidance=True, steps=2) as capture:
        for timestep in (900, 600, 300):
            call(unet, sample, text, timestep)
        assert capture.calls == capture.cube().steps == 3
    for timestep, step in ((900, 0), (600, 1), (300, 2)):
        with capture_attention(unet, one_hot_groups(), batch=1, guidance=True, steps=1) as single:
            call(unet, sample, text, timestep)
        for name, found in captured_layers(capture.cube()).items():
            assert torch.equal(found[step], captured_layers(single.cube())[name][0])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_calls_that_wait_for_one_another_give_what_each_gives_alone(make_unet, monkeypatch, mode):
    unet, (sample, text) = make_unet(), inputs()
    monkeypatch.setattr("explorer.attention.unet.WAITING_SCORE_ELEMENTS", 1 << 22)
    with capture_attention(unet, one_hot_groups(), batch=1, guidance=True, steps=4) as together, mode():
        for timestep in (900, 600):
            call(unet, sample, text, timestep)
        early = captured_layers(together.cube())  # also what waits is read
        call(unet, sample, text, 300)
    monkeypatch.setattr("explorer.attention.unet.WAITING_SCORE_ELEMENTS", 1)
    with capture_attention(unet, one_hot_groups(), batch=1, guidance=True, steps=4) as apart, mode():
        for timestep in (900, 600, 300):
            call(unet, sample, text, timestep)
    found = captured_layers(together.cube())
    for name, expected in captured_layers(apart.cube()).items():
        assert torch.equal(found[name], expected)
        assert torch.equal(early[name], expected[:2])


def test_two_unets_are_captured_side_by_side(make_unet):
    first, second, (sample, text) = make_unet(0), make_unet(1), inputs()
    options = {"batch": 1, "guidance": True, "steps": 1}
    with (
        capture_attention(first, one_hot_groups(), **options) as left,
        capture_attention(second, one_hot_groups(), **options) as right,
    ):
        call(second, sample, text)
        call(first, sample, text)
    with capture_attention(first, one_hot_groups(), **options) as alone:
        call(first, sample, text)
    left, right, alone = (captured_layers(capture.cube()) for capture in (left, right, alone))
    assert all(torch.equal(left[name], alone[name]) for name in alone)
    assert any(not torch.equal(left[name], right[name]) for name in left)


def test_fused_projections_are_refused(make_unet):
    unet = make_unet(only_cross_attention=False)
    unet.fuse_qkv_projections()
    with (
        pytest.raises(ValueError, match="fused QKV projections"),
        capture_attention(unet, one_hot_groups(), batch=1, guidance=True, steps=1),
    ):
        pytest.fail("a fused U-Net was accepted")


def test_projections_fused_later_do_not_give_silent_empty_maps(make_unet):
    unet = make_unet(only_cross_attention=False)
    with capture_attention(unet, one_hot_groups(), batch=1, guidance=True, steps=1):
        unet.fuse_qkv_projections()
        with pytest.raises(RuntimeError, match="its projections are bypassed"):
            call(unet, *inputs())


@pytest.mark.parametrize(
    ("groups", "options", "message"),
    [
        (torch.eye(TOKENS)[:, :3], {}, "do not sum to one"),
        (one_hot_groups(rows=2), {}, r"expected \[1 or 1, tokens, columns\]"),
        (one_hot_groups(), {"columns": ["a"]}, "1 column names for 4 columns"),
        (one_hot_groups(), {"branch": "negative", "guidance": False}, "no negative branch"),
        (one_hot_groups(), {"steps": 0}, "steps is 0"),
        (one_hot_groups(), {"attentions": ("attn3",)}, "no cross-attention named attn3"),
    ],
)
def test_bad_arguments_are_named(make_unet, groups, options, message):
    options = {"batch": 1, "guidance": True, "steps": 1} | options
    with pytest.raises(ValueError, match=message), capture_attention(make_unet(), groups, **options):
        pytest.fail("accepted")


def test_a_wrong_context_length_and_an_unused_capture_are_refused(make_unet):
    unet, (sample, text) = make_unet(), inputs()
    with capture_attention(unet, one_hot_groups(), batch=1, guidance=True, steps=1) as capture:
        with pytest.raises(ValueError, match="the U-Net was not called"):
            capture.cube()
        with pytest.raises(ValueError, match="reads 15 text tokens: groups have 16"):
            call(unet, sample, text[:, :15])
