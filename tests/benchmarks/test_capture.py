import numpy as np
import pytest
import torch

from explorer.benchmarks.capture import (
    CostRatio,
    bare_unet_calls,
    benchmark_capture,
    capture_table,
    check_pair,
    interleave,
    pipeline_denoising,
    random_denoising,
    take_turns,
)
from explorer.generation.generate import GenerationRequest, generate

REQUEST = GenerationRequest(prompt="a dog", seed=0, steps=2)


def test_ratio_is_the_median_of_paired_ratios():
    cost = CostRatio(seconds=(2.0, 9.0, 3.0), bare_seconds=(1.0, 3.0, 3.0))
    assert cost.ratio == 2.0
    assert cost.spread == (1.5, 2.5)
    summary = cost.as_dict()
    assert (summary["ratio"], summary["seconds"], summary["rounds"]) == (2.0, 3.0, 3)


def test_runs_take_turns_after_a_warm_up():
    order = []
    cost = interleave(lambda: order.append("measured"), lambda: order.append("bare"), 2)
    assert order == ["measured", "bare", "measured", "bare", "bare", "measured"]
    assert len(cost.seconds) == len(cost.bare_seconds) == 2
    with pytest.raises(ValueError, match="rounds is 0"):
        interleave(list, list, 0)


def test_everyone_starts_a_round_once_in_a_while():
    order = []
    seconds = take_turns({name: lambda name=name: order.append(name) for name in "abc"}, 3)
    assert "".join(order) == "abcabcbcacab"
    assert [len(series) for series in seconds.values()] == [3, 3, 3]


def test_capture_is_timed_against_none_over_the_same_unet_calls(make_pipeline):
    denoising, rows = pipeline_denoising(make_pipeline(), REQUEST), []
    denoising.unet.register_forward_pre_hook(lambda unet, inputs: rows.append(inputs[0].shape[0]))
    costs = benchmark_capture(denoising, 1)
    assert list(costs) == ["ours", "DAAM-style", "prompt-to-prompt-style"]
    assert rows == [2] * (2 * 4 * REQUEST.steps)
    assert len({cost.bare_seconds for cost in costs.values()}) == 1
    assert capture_table(costs).count("\n") == 5


def test_denoising_is_what_the_pipeline_does(make_pipeline):
    pipeline = make_pipeline()
    latents = pipeline_denoising(pipeline, REQUEST).run()
    with torch.no_grad():
        decoded = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
    image = pipeline.image_processor.postprocess(decoded, output_type="np")[0]
    drawn = generate(pipeline, REQUEST, capture=False).images[0]
    assert np.abs(image * 255 - drawn).max() <= 0.51  # both rounded to whole levels, or not yet


def test_denoising_needs_one_guided_image(make_pipeline):
    with pytest.raises(ValueError, match="images is 2"):
        pipeline_denoising(make_pipeline(), GenerationRequest(prompt="a dog", seed=0, steps=2, images=2))
    with pytest.raises(ValueError, match="guidance scale 1"):
        pipeline_denoising(make_pipeline(), GenerationRequest(prompt="a dog", seed=0, steps=2, guidance_scale=1.0))


def test_an_unknown_architecture_is_refused():
    with pytest.raises(ValueError, match="architecture 'sd9' is unknown: expected one of"):
        random_denoising("sd9", steps=1, guidance_scale=7.5, device="cpu")
    with pytest.raises(ValueError, match="steps is 0: expected at least 1"):
        random_denoising("sd15", steps=0, guidance_scale=7.5, device="cpu")


def test_bare_calls_are_as_many_as_the_steps_and_as_wide_as_the_batch(make_pipeline):
    pipeline, rows = make_pipeline(), []
    pipeline.unet.register_forward_pre_hook(lambda unet, inputs: rows.append(inputs[0].shape[0]))
    bare_unet_calls(pipeline, REQUEST)()
    assert rows == [2] * REQUEST.steps


def test_a_comparison_needs_two_checkpoints():
    check_pair(["a", "b"])
    with pytest.raises(ValueError, match="checkpoints given: a, a; expected at least two different ones"):
        check_pair(["a", "a"])
