"""The union of what is blamed for several concepts."""

import numpy as np
import pytest

from explorer.defence.blame import most_blamed_of_any


def test_every_concepts_first_pairs_come_before_any_ones_second():
    scores = np.array([[9.0, 8.0, 0.0, 0.0, 0.0, 7.0], [0.0, 0.1, 0.3, 0.2, 0.0, 0.0]])
    assert most_blamed_of_any(scores, 2, seed=0).tolist() == [0, 2]
    assert most_blamed_of_any(scores, 4, seed=0).tolist() == [0, 1, 2, 3]


def test_equal_scores_are_drawn_by_the_seed():
    flat = np.zeros((1, 100))
    assert most_blamed_of_any(flat, 10, seed=1).tolist() == most_blamed_of_any(flat, 10, seed=1).tolist()
    assert most_blamed_of_any(flat, 10, seed=1).tolist() != list(range(10))


@pytest.mark.parametrize("count", [0, 6])
def test_all_or_none_cannot_be_left_out(count):
    with pytest.raises(ValueError, match=f"{count} pairs to leave out: expected from 1 to 5"):
        most_blamed_of_any(np.zeros((2, 6)), count, seed=0)
