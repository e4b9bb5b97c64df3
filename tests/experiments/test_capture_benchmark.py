import pytest

from explorer.experiments.capture_benchmark import (
    CostRatio,
    capture_cost,
    check_pair,
    comparison_cost,
    interleave,
)
from explorer.experiments.generation import GenerationRequest, generate

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


def test_capture_cost_times_capture_against_none(make_pipeline, monkeypatch):
    captured = []
    monkeypatch.setattr(
        "explorer.experiments.capture_benchmark.generate",
        lambda *arguments, capture: captured.append(capture) or generate(*arguments, capture=capture),
    )
    cost = capture_cost(make_pipeline(), REQUEST, 1)
    assert captured == [True, False, True, False]
    assert min(cost.seconds + cost.bare_seconds) > 0


def test_bare_calls_are_as_many_as_the_steps_and_as_wide_as_the_batch(make_pipeline):
    pipeline, rows = make_pipeline(), []
    pipeline.unet.register_forward_pre_hook(lambda unet, inputs: rows.append(inputs[0].shape[0]))
    comparison_cost({"one": pipeline}, REQUEST, 1)
    assert rows == [2] * (4 * REQUEST.steps)


def test_a_comparison_needs_two_checkpoints():
    check_pair(["a", "b"])
    with pytest.raises(ValueError, match="checkpoints given: a, a; expected at least two different ones"):
        check_pair(["a", "a"])
