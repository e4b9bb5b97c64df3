import pytest
import torch

from explorer.checkpoints.architectures import UNET_CONFIGS, count_parameters
from explorer.scenarios.recipes import fine_tuning_recipe
from explorer.training.recipes import (
    FINE_TUNING_RECIPES,
    SD15,
    SDXL,
    expected_gpu_memory,
    override,
)

RELEASED = {"sd15": 859_520_964, "sd21": 865_910_724, "sdxl": 2_567_463_684}
"""Parameters of the released U-Nets."""


@pytest.mark.parametrize("name", RELEASED)
def test_the_architectures_are_the_released_ones(name):
    assert count_parameters(UNET_CONFIGS[name]) == RELEASED[name]


def test_what_the_paper_says_holds_in_every_recipe():
    for recipe in FINE_TUNING_RECIPES.values():
        assert (recipe.pairs, recipe.training.learning_rate) == (50_000, 4e-5)
        assert recipe.training.schedule == "constant"
        assert recipe.training.batch_size % recipe.training.accumulation == 0


def test_memory_is_that_of_a_real_optimizer(make_unet):
    unet = make_unet()
    config = {name: value for name, value in dict(unet.config).items() if not name.startswith("_")}
    expected = expected_gpu_memory(override(SD15, ema_decay=0.0, precision="no"), config)
    optimizer = torch.optim.AdamW(unet.parameters())
    unet(torch.ones(1, 4, 16, 16), 1, torch.ones(1, 3, 32)).sample.sum().backward()
    optimizer.step()
    parameters = list(unet.parameters())
    moments = [state[name] for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert expected["weights"] == sum(parameter.nbytes for parameter in parameters)
    assert expected["gradients"] == sum(parameter.grad.nbytes for parameter in parameters)
    assert expected["optimizer"] == sum(moment.nbytes for moment in moments)
    assert expected["moving_average"] == expected["half_precision_copies"] == expected["gradient_buckets"] == 0


def test_parts_add_up_and_follow_the_settings(make_unet):
    tiny = {name: value for name, value in dict(make_unet().config).items() if not name.startswith("_")}
    alone = expected_gpu_memory(SD15, tiny)
    parts = set(alone) - {"parameters", "gpu_without_activations", "disk_cache", "disk_pairs", "disk_import_peak"}
    assert sum(alone[part] for part in parts) == alone["gpu_without_activations"]
    assert alone["moving_average"] == alone["weights"] == 2 * alone["half_precision_copies"]
    shared = expected_gpu_memory(SD15, tiny, processes=2)
    assert shared["gradient_buckets"] == alone["gradients"]
    assert 2 * shared["micro_batch"] == alone["micro_batch"]
    # 64 x 64 x 4 latents and 77 x 32 of text a pair, two bytes each.
    assert alone["disk_cache"] == 50_000 * 2 * (4 * 64 * 64 + 77 * 32)
    assert alone["disk_pairs"] == 50_000 * 512 * 512 * 3
    assert alone["disk_import_peak"] == 2 * alone["disk_pairs"]


def test_overrides_leave_the_recipe_alone():
    changed = override(SDXL, steps=3, resolution=64, seed=None)
    assert (changed.training.steps, changed.resolution) == (3, 64)
    assert changed.training.learning_rate == SDXL.training.learning_rate
    assert SDXL.resolution == 1024


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="recipe 'sd3' is unknown: expected one of cpu, full, sd15, sd21, sdxl"):
        fine_tuning_recipe("sd3")
    with pytest.raises(ValueError, match="resolution is 500: expected a positive multiple of 8"):
        override(SD15, resolution=500)
    with pytest.raises(ValueError, match="caption_dropout is 1"):
        override(SD15, caption_dropout=1)
