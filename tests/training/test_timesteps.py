import math

import pytest
import torch

from explorer.training.timesteps import drawn_timesteps


def generator():
    return torch.Generator().manual_seed(0)


def test_uniform_timesteps_are_those_of_before_there_was_a_choice():
    found = drawn_timesteps("uniform", 5, 1000, generator())
    assert found.tolist() == torch.randint(1000, (5,), generator=generator()).tolist()


def test_logit_normal_timesteps_follow_their_distribution():
    found = drawn_timesteps("logit-normal", 200_000, 1000, generator())
    assert (found.dtype, found.shape) == (torch.int64, (200_000,))
    assert (found.clamp(0, 999) == found).all()
    for share in (0.1, 0.25, 0.5, 0.9):
        below = (1 + math.erf(math.log(share / (1 - share)) / math.sqrt(2))) / 2
        assert (found < share * 1000).float().mean().item() == pytest.approx(below, abs=0.005)


def test_the_last_timestep_is_one_of_the_schedule(monkeypatch):
    monkeypatch.setattr("torch.normal", lambda **_: torch.full((3,), 40.0))
    assert drawn_timesteps("logit-normal", 3, 1000, generator()).tolist() == [999] * 3
