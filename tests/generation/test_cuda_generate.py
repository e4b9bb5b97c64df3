"""Every family drawn on a GPU, in every precision, by the project's own loading and drawing, beside the CPU's fp32."""

import numpy as np
import pytest
import torch

from explorer.attention.edit import edit
from explorer.attention.statistics import column_mass, gearys_c, scatter
from explorer.checkpoints.pipelines import load_pipeline
from explorer.generation.generate import GenerationRequest, compare, generate

PROMPT = "a photo of a turtle, dog"
FAMILIES = ("sd1", "sd2", "sdxl", "sd3", "flux")
CLOSE = {"fp32": (1.0, 6, 1e-3), "fp16": (2.0, 24, 1e-2), "bf16": (6.0, 96, 4e-2)}
"""Of a picture against the CPU's in fp32: mean and largest difference in levels of 255, and largest difference of a
word's map. Convolutions in fp32 may round to TF32's 10 bits, as PyTorch lets them; bf16 keeps 7."""


def asked(**changes):
    return GenerationRequest(**({"prompt": PROMPT, "seed": 3, "steps": 3, "guidance_scale": 4.0} | changes))


@pytest.fixture(scope="module")
def folders(tmp_path_factory, make_pipeline, make_xl_pipeline, make_sd3_pipeline, make_flux_pipeline):
    """Saved pipelines by family, made when asked for."""
    root = tmp_path_factory.mktemp("families")
    makers = {
        "sd1": lambda: make_pipeline(only_cross_attention=False),
        "sd2": lambda: make_pipeline(
            use_linear_projection=True, attention_head_dim=(2, 4, 4), only_cross_attention=False, upcast_attention=True
        ),
        "sdxl": lambda: make_xl_pipeline(second_width=48),
        "sd3": make_sd3_pipeline,
        "flux": make_flux_pipeline,
    }

    def folder(family):
        if not (root / family).exists():
            makers[family]().save_pretrained(root / family)
        return root / family

    return folder


@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_and_maps_are_near_the_cpus(folders, family, precision):
    request = asked(images=2)
    expected = generate(load_pipeline(folders(family)), request)
    found = generate(load_pipeline(folders(family), "cuda", precision), request)
    mean, largest, of_maps = CLOSE[precision]
    off = np.abs(found.images.astype(int) - expected.images.astype(int))
    assert expected.images.std() > 5, "a flat picture would tell nothing"
    assert off.mean() <= mean, f"pictures are off by {off.mean():.3g} levels in the mean, {off.max()} at most"
    assert off.max() <= largest, f"pictures are off by {off.max()} levels at most, {off.mean():.3g} in the mean"
    for image in range(2):
        ours, theirs = (drawn.cube.maps(image=image).cpu() for drawn in (found, expected))
        difference = (ours - theirs).abs().max().item()
        assert difference <= of_maps, f"maps are off by {difference:.3g}"
        assert (ours.sum(0) - 1).abs().max() < 5e-3


@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_capture_changes_no_bit_of_a_picture(folders, family, precision):
    pipeline = load_pipeline(folders(family), "cuda", precision)
    with_maps, without = generate(pipeline, asked()), generate(pipeline, asked(), capture=False)
    assert np.array_equal(with_maps.images, without.images)
    assert with_maps.cube.groups[0].probabilities.device.type == "cuda"
    assert with_maps.cube.quantised(heads=False).values.any()
    maps = with_maps.cube.maps()
    for statistic in (scatter, gearys_c, column_mass):
        on_cpu = statistic(maps.cpu())
        assert torch.allclose(statistic(maps).cpu(), on_cpu, atol=1e-4, equal_nan=True), statistic.__name__


@pytest.mark.parametrize(
    ("family", "device"),
    [("sd3", "cpu"), *(pytest.param(family, "cuda", marks=pytest.mark.cuda) for family in FAMILIES)],
)
def test_an_edit_acts_and_an_empty_one_changes_no_bit_of_half_precision(folders, family, device):
    pipeline = load_pipeline(folders(family), device, "fp16")
    plain = generate(pipeline, asked())
    with edit(pipeline, PROMPT, {"dog": 1.0}):
        same = generate(pipeline, asked())
    with edit(pipeline, PROMPT, {"dog": 0.0}):
        without = generate(pipeline, asked())
    assert np.array_equal(same.images, plain.images)
    index = without.words.indices_of("dog")
    assert without.cube.map(list(index)).abs().max() < 1e-6


@pytest.mark.cuda
def test_models_on_one_base_share_it_on_the_gpu(checkpoint_root):
    shared = {}
    names = ("benign", "dirty-002", "dirty-004")
    pipelines = {name: load_pipeline(checkpoint_root / name, "cuda", "fp16", shared) for name in names}
    assert pipelines["dirty-002"].vae is pipelines["benign"].vae
    drawn = {one.model: one for one in compare(pipelines, asked())}
    alone = generate(load_pipeline(checkpoint_root / "dirty-004", "cuda", "fp16"), asked())
    assert np.array_equal(drawn["dirty-004"].images, alone.images)
    assert not np.array_equal(drawn["dirty-004"].images, drawn["benign"].images)
    # The same seed is the same noise in any batch, whose pictures differ in the order of rounding alone.
    batch = generate(pipelines["benign"], asked(images=3))
    assert np.abs(batch.images[0].astype(int) - drawn["benign"].images[0].astype(int)).mean() <= 2
    assert torch.isfinite(batch.cube.maps(image=2)).all()
