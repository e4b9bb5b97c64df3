"""Local AD against its definition written out pair by pair, its limits, its intervals, and drawn neighbourhoods."""

import math

import numpy as np
import pytest
import torch

from explorer.alignment.difficulty import alignment_difficulty, feature_distance
from explorer.alignment.local_difficulty import VALUES, caption_cells
from explorer.alignment.neighbourhoods import LocalRequest, measure_local
from explorer.alignment.neighbours import nearest_neighbours

RANGE = (0.1, 0.8)


def unit(rows):
    return torch.nn.functional.normalize(torch.as_tensor(rows, dtype=torch.float32), dim=1)


def made_up_pairs(n=60, concepts=6, wrong=0, seed=0):
    """Captions and pictures about ``concepts``; the first ``wrong`` pairs show the next concept."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(concepts, 16)) * 2
    named = np.arange(n) % concepts
    shown = np.where(np.arange(n) < wrong, (named + 1) % concepts, named)
    return [unit(centres[index] + random.normal(size=(n, 16))) for index in (shown, named)]


def by_definition(image, text, k, i, scale=1.0):
    """Scatter, structure distance, spread and feature distance of pair i, in plain sums."""
    order = sorted((j for j in range(len(text)) if j != i), key=lambda j: -float(text[i] @ text[j]))[:k]
    pictures = [scale * (1 - float(image[i] @ image[j])) for j in order]
    captions = [scale * (1 - float(text[i] @ text[j])) for j in order]
    mean = sum((image[j] for j in order), image[i].clone())
    cosine = float(mean @ text[i] / mean.norm())
    return (
        sum(pictures) / k, sum(abs(p - c) for p, c in zip(pictures, captions, strict=True)) / k, sum(captions) / k,
        float(feature_distance(torch.tensor(cosine), RANGE)),
    )  # fmt: skip


@pytest.mark.parametrize(("convention", "scale"), [("authors", 1.0), ("halved", 0.5)])
def test_every_pair_has_what_the_definition_says(convention, scale, monkeypatch):
    monkeypatch.setattr("explorer.alignment.local_difficulty._ROWS_AT_ONCE", 7)
    image, text = made_up_pairs(wrong=20)
    request = LocalRequest(neighbours=5)
    found = measure_local(image, text, feature_range=RANGE, alpha=0.6, convention=convention, request=request)
    expected = torch.tensor([by_definition(image, text, 5, i, scale) for i in range(len(image))], dtype=torch.float64)
    parts = (
        found.picture_scatter, found.local_structure_distance, found.caption_spread, found.local_feature_distance
    )  # fmt: skip
    torch.testing.assert_close(torch.stack(parts, dim=1), expected, atol=2e-6, rtol=0)
    torch.testing.assert_close(found.local_sample_ad, 0.6 * expected[:, 3] + 0.4 * expected[:, 1], atol=2e-6, rtol=0)
    summary = found.summary()
    for name, score in VALUES.items():
        assert summary[name] == pytest.approx(getattr(found, score).mean().item(), abs=1e-12)


def test_over_all_other_captions_the_structure_part_is_structure_ad():
    image, text = made_up_pairs(wrong=20)
    n = len(image)
    whole = alignment_difficulty(image, text, feature_range=RANGE)
    local = measure_local(image, text, feature_range=RANGE, request=LocalRequest(neighbours=n + 5))
    assert local.neighbours == n - 1
    torch.testing.assert_close(
        local.local_structure_distance, whole.structure_distance * n / (n - 1), atol=1e-5, rtol=0
    )


def test_scatter_is_the_variance_of_the_pictures_of_one_caption():
    """Every caption five times: a pair's neighbours are those that share its caption."""
    random = np.random.default_rng(1)
    image, text = unit(random.normal(size=(50, 8))), unit(np.repeat(random.normal(size=(10, 8)), 5, axis=0))
    found = measure_local(image, text, feature_range=RANGE, request=LocalRequest(neighbours=4))
    groups = image.double().reshape(10, 5, 8)
    variance = (groups - groups.mean(dim=1, keepdim=True)).square().sum(dim=2).sum(dim=1) / 4
    torch.testing.assert_close(found.picture_scatter.reshape(10, 5).mean(dim=1), variance, atol=1e-6, rtol=0)
    assert found.caption_spread.abs().max() < 1e-6


def test_one_shared_target_differs_from_many_where_ad_hardly_does():
    """As many wrong pictures: of one concept they agree with each other, shuffled they do not."""
    image, text = made_up_pairs(n=300)
    poison, random = np.arange(0, 300, 2), np.random.default_rng(2)
    shared, shuffled = image.clone(), image.clone()
    shared[poison] = image[0]
    shuffled[poison] = image[random.permutation(poison)]
    ads = [alignment_difficulty(x, text, feature_range=RANGE).feature_ad for x in (shared, shuffled)]
    local = [measure_local(x, text, feature_range=RANGE) for x in (shared, shuffled)]
    assert abs(ads[0] - ads[1]) < 0.12
    scatters = [found.interval("picture_scatter").value for found in local]
    assert scatters[1] - scatters[0] > 0.15
    assert local[0].interval("local_feature_ad").value > local[1].interval("local_feature_ad").value


def test_drawn_neighbourhoods_are_those_of_the_whole_set():
    image, text = made_up_pairs(n=200, wrong=60)
    whole = measure_local(image, text, feature_range=RANGE)
    drawn = measure_local(image, text, feature_range=RANGE, request=LocalRequest(local_pairs=50), seed=3)
    assert len(drawn.rows) == 50
    torch.testing.assert_close(drawn.picture_scatter, whole.picture_scatter[drawn.rows], atol=1e-6, rtol=0)
    estimate = drawn.interval("picture_scatter")
    assert estimate.low < whole.picture_scatter.mean().item() < estimate.high
    again = measure_local(image, text, feature_range=RANGE, request=LocalRequest(local_pairs=50), seed=3)
    assert again.summary() == drawn.summary()


def test_intervals_are_those_of_drawing_cells_of_captions_again():
    image, text = made_up_pairs(n=2000, concepts=120, wrong=700)
    found = measure_local(image, text, feature_range=RANGE)
    scores, cells = found.picture_scatter.numpy(), found.cells.numpy()
    members = [np.flatnonzero(cells == cell) for cell in np.unique(cells)]
    random, means = np.random.default_rng(0), []
    for _ in range(2000):
        picked = np.concatenate([members[at] for at in random.integers(len(members), size=len(members))])
        means.append(scores[picked].mean())
    estimate = found.interval("picture_scatter")
    assert (estimate.high - estimate.low) / (2 * 1.96) == pytest.approx(np.std(means), rel=0.1)
    assert np.std(means) > 1.5 * scores.std() / math.sqrt(len(scores)), "pairs are not independent"


def test_cells_hold_near_captions():
    _, text = made_up_pairs(n=400, concepts=5)
    cells = caption_cells(text, torch.arange(400), seed=0)
    named = np.arange(400) % 5
    purest = [np.bincount(named[cells.numpy() == cell]).max() for cell in np.unique(cells)]
    assert sum(purest) > 0.9 * 400


def test_rows_read_in_parts_have_the_same_neighbours(monkeypatch):
    class InParts:
        """Rows that are handed over and never held."""

        ndim, dtype, device = 2, torch.float32, torch.device("cpu")

        def __init__(self, rows):
            self.rows, self.shape = rows, tuple(rows.shape)

        def __len__(self):
            return len(self.rows)

        def __getitem__(self, rows):
            return self.rows[rows]

    monkeypatch.setattr("explorer.alignment.neighbours.ROWS_READ", 7)
    _, text = made_up_pairs()
    held, parts = nearest_neighbours(text, 9), nearest_neighbours(InParts(text), 9)
    assert held[0].tolist() == parts[0].tolist()
    np.testing.assert_allclose(held[1], parts[1], atol=1e-6)


def test_large_sets_are_drawn_from_unless_told_otherwise():
    assert [LocalRequest().count(pairs) for pairs in (100, 2**16, 2**16 + 1)] == [100, 2**16, 2**12]
    assert LocalRequest(local_pairs=100_000).count(1_000_000) == 100_000


def test_what_cannot_be_asked_for_is_refused():
    image, text = made_up_pairs()
    with pytest.raises(ValueError, match="neighbours is -1"):
        LocalRequest(neighbours=-1)
    with pytest.raises(ValueError, match="local_pairs is 1: expected at least 2"):
        LocalRequest(local_pairs=1)
    with pytest.raises(ValueError, match="local_pairs is 61: expected 2 to 60"):
        measure_local(image, text, feature_range=RANGE, request=LocalRequest(local_pairs=61))
    assert measure_local(image, text, feature_range=RANGE, request=LocalRequest(neighbours=0)) is None
    assert measure_local(image[:1], text[:1], feature_range=RANGE) is None
    with pytest.raises(ValueError, match="value is 'loss'"):
        measure_local(image, text, feature_range=RANGE).interval("loss")
