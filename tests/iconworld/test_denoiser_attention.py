import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

from explorer.iconworld.denoiser import use_fused_attention, use_training_attention


@pytest.mark.parametrize(
    ("sample_size", "kind"), [(16, AttnProcessor), (17, AttnProcessor2_0), ((8, 64), AttnProcessor2_0)]
)
def test_training_multiplies_small_attention_out_and_no_other(make_unet, sample_size, kind):
    unet = make_unet(sample_size=sample_size)
    use_training_attention(unet)
    assert {type(processor) for processor in unet.attn_processors.values()} == {kind}
    use_fused_attention(unet)
    assert {type(processor) for processor in unet.attn_processors.values()} == {AttnProcessor2_0}


def test_both_kinds_draw_the_same(make_unet):
    unet = make_unet(sample_size=16)
    width = unet.config.cross_attention_dim
    width = width if isinstance(width, int) else width[0]
    inputs = torch.randn(1, 4, 16, 16), torch.tensor(5), torch.randn(1, 7, width)
    with torch.no_grad():
        fused = unet(*inputs).sample
        use_training_attention(unet)
        assert torch.allclose(unet(*inputs).sample, fused, atol=1e-5)
