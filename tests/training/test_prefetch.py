"""Batches made ahead are those made in turn, and nothing is left running."""

import threading
import time
from contextlib import closing
from itertools import islice

import pytest
import torch

from explorer.training.prefetch import feeding_threads, prefetched


def slow_square(step):
    time.sleep(0.002 * (step % 3))  # later steps are done first
    return step * step


@pytest.mark.parametrize("threads", [0, 1, 5])
def test_values_come_in_order_whatever_the_threads(threads):
    assert list(prefetched(slow_square, range(3, 40), threads)) == [step * step for step in range(3, 40)]


def test_an_error_comes_at_its_own_step_and_ends_the_threads():
    def refuses_five(step):
        if step == 5:
            raise ValueError("step 5 cannot be made")
        return step

    values = prefetched(refuses_five, range(100), 4)
    assert list(islice(values, 5)) == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="step 5 cannot be made"):
        next(values)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_leaving_early_makes_no_more_than_what_was_ahead():
    made = []
    with closing(prefetched(made.append, range(10_000), 2)) as values:
        next(values)
    assert len(made) < 20


def test_the_cpu_that_trains_is_not_asked_to_feed():
    assert feeding_threads(torch.device("cpu"), 1) == 0
    assert feeding_threads(torch.device("cuda"), 1) >= 1
    assert feeding_threads(torch.device("cuda"), 10_000) == 1
