"""CPU offload: networks that visit the GPU one after another draw what they draw there together."""

import numpy as np
import pytest
import torch

from explorer.checkpoints.pipelines import load_pipeline
from explorer.generation.generate import GenerationRequest, generate

REQUEST = GenerationRequest(prompt="a photo of a turtle, dog", seed=3, steps=2, guidance_scale=4.0)


@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("offload", ["model", "sequential"])
def test_offload_draws_as_the_gpu_alone(checkpoint_root, offload, precision):
    expected = generate(load_pipeline(checkpoint_root / "dirty-002", "cuda", precision), REQUEST)
    found = generate(load_pipeline(checkpoint_root / "dirty-002", "cuda", precision, offload=offload), REQUEST)
    assert np.array_equal(found.images, expected.images)
    assert torch.allclose(found.cube.maps(), expected.cube.maps(), atol=1e-4)


@pytest.mark.cuda
@pytest.mark.parametrize("offload", ["model", "sequential"])
@pytest.mark.parametrize("family", ["sdxl", "sd3"])
def test_families_of_several_text_encoders_are_offloaded(
    tmp_path, make_xl_pipeline, make_sd3_pipeline, family, offload
):
    {"sdxl": make_xl_pipeline, "sd3": make_sd3_pipeline}[family]().save_pretrained(tmp_path / family)
    expected = generate(load_pipeline(tmp_path / family, "cuda"), REQUEST)
    pipeline = load_pipeline(tmp_path / family, "cuda", offload=offload)
    for found in (generate(pipeline, REQUEST), generate(pipeline, REQUEST)):
        assert np.array_equal(found.images, expected.images)
        assert torch.allclose(found.cube.maps(), expected.cube.maps(), atol=1e-4)
