import pytest
import torch

from explorer.attention.capture import capture_attention
from explorer.attention.unet import cross_attention_layers
from explorer.benchmarks.capture import pipeline_denoising
from explorer.benchmarks.capture_peers import (
    daam_capture,
    prompt_to_prompt_capture,
    recorded_probabilities,
)
from explorer.generation.generate import GenerationRequest

REQUEST = GenerationRequest(prompt="a dog", seed=0, steps=2)


@pytest.fixture
def denoising(make_pipeline):
    return pipeline_denoising(make_pipeline(), REQUEST)


def our_sums(denoising) -> dict[str, torch.Tensor]:
    """``[heads, positions, tokens]`` by layer, every token a column of its own, summed over the steps."""
    groups = torch.eye(denoising.text.shape[1])
    with capture_attention(
        denoising.unet, groups, batch=1, guidance=True, steps=denoising.steps, dtype=torch.float32
    ) as capture:
        denoising.run()
    return {
        layer: group.probabilities[:, row, 0].sum(0).flatten(-2).mT
        for group in capture.cube().groups
        for row, layer in enumerate(group.layers)
    }


def test_peers_see_the_maps_that_ours_sees(denoising):
    ours = our_sums(denoising)
    with daam_capture(denoising.unet) as heat_maps:
        denoising.run()
    with prompt_to_prompt_capture(denoising.unet) as stored:
        denoising.run()
    for layer, sums in ours.items():
        heads = torch.stack([heat_maps[layer, head].flatten(1).mT for head in range(len(sums))])
        assert torch.allclose(heads, sums, atol=1e-5)
        assert torch.allclose(stored[layer], sums, atol=1e-5)


def test_prompt_to_prompt_keeps_self_attention_too_and_daam_does_not(denoising):
    names = {name for name, module in denoising.unet.named_modules() if name.endswith("attn1")}
    with daam_capture(denoising.unet) as heat_maps:
        denoising.run()
    with prompt_to_prompt_capture(denoising.unet) as stored:
        denoising.run()
    of_self = {name for name in names if not denoising.unet.get_submodule(name).is_cross_attention}
    assert of_self
    assert of_self <= stored.keys()
    assert not of_self & {layer for layer, _ in heat_maps}


def test_the_unet_is_as_before_afterwards(denoising):
    processors = {name: type(processor) for name, processor in denoising.unet.attn_processors.items()}
    before = denoising.run()
    with pytest.raises(RuntimeError, match="stop"), recorded_probabilities(
        denoising.unet, lambda *_: (_ for _ in ()).throw(RuntimeError("stop")), self_attention=True
    ):  # fmt: skip
        denoising.run()
    assert {name: type(processor) for name, processor in denoising.unet.attn_processors.items()} == processors
    assert not any("get_attention_scores" in vars(layer) for layer in cross_attention_layers(denoising.unet).values())
    assert torch.equal(denoising.run(), before)
