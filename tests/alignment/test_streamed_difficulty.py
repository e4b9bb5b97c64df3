"""Streamed AD is AD: exact where all are drawn, honest where not, the same bits however many share it, nothing held."""

import math
import threading

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from explorer.alignment.difficulty import alignment_difficulty
from explorer.alignment.streamed_difficulty import rank_correlation, stream_landmarks
from explorer.alignment.structure import columns, set_statistics
from explorer.alignment.structure.controls import LEAST_PILOT, choose_controls
from explorer.alignment.structure.distance import feature_statistics
from explorer.alignment.structure.tiles import structure_and_centred_row_sums
from explorer.alignment.updates import mean_offset
from explorer.core.sampling_design import draw_evenly
from explorer.core.share import ALONE, Share

N, D = 240, 12
RANGE = (-0.2, 0.5)


def rows(seed, shift, n=N, d=D):
    """Unit rows in a cone, some closer to its middle than others, so that D_s differs."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.linspace(0.5, 3, n, dtype=torch.float64)[torch.randperm(n, generator=generator)]
    features = torch.randn(n, d, generator=generator, dtype=torch.float64) * spread[:, None] + shift
    return features / features.norm(dim=1, keepdim=True)


IMAGE, TEXT = rows(0, 0.5), rows(1, 0.45)
EXACT = alignment_difficulty(IMAGE, TEXT, feature_range=RANGE)


def streamed(image, text, samples, *, seed=0, population=None, take=lambda rows, scores: None, **options):
    draw = draw_evenly(len(image) if population is None else population, samples, seed, least=1)
    settings = {"feature_range": RANGE, "alpha": 0.8, "convention": "authors", "precision": "fp64", "seed": seed}
    return stream_landmarks(image, text, draw, take, **{**settings, **options})


@pytest.mark.parametrize("convention", ["authors", "halved"])
def test_all_rows_drawn_is_exact(convention):
    lines = {}
    found = streamed(
        IMAGE, TEXT, N, convention=convention, take=lambda rows, scores: lines.update({(rows.start, rows.stop): scores})
    )
    exact = alignment_difficulty(IMAGE, TEXT, feature_range=RANGE, convention=convention)
    for name, value in exact.summary().items():
        expected = pytest.approx(value, abs=1e-9) if isinstance(value, float) else value
        assert found.difficulty.summary()[name] == expected, name
    _, centred = structure_and_centred_row_sums(IMAGE, TEXT, convention=convention)
    offset = mean_offset(exact, centred_distance=centred / N, statistics=feature_statistics(IMAGE, TEXT))
    for name, value in offset.summary().items():
        assert found.offset[name] == pytest.approx(value, abs=1e-12), name
    assert list(lines) == [(0, N)]
    for name, scores in lines[0, N].items():
        torch.testing.assert_close(torch.from_numpy(scores), getattr(exact, name), atol=1e-12, rtol=0)
    assert (found.standard_error, found.rank_correlation) == (0, pytest.approx(1))
    assert found.check.largest_deviation < 1e-12
    assert found.controls.twin, "otherwise nothing was tested of the control variates"


@pytest.mark.parametrize("twin", [True, False])
def test_intervals_cover_the_set_over_many_draws(twin):
    runs = [streamed(IMAGE, TEXT, 60, seed=seed, twin=twin) for seed in range(200)]
    values = torch.tensor([run.difficulty.structure_ad for run in runs], dtype=torch.float64)
    predicted = math.sqrt(sum(run.standard_error**2 for run in runs) / len(runs))
    assert values.std().item() == pytest.approx(predicted, rel=0.2)
    # Coefficients come from the same landmarks: what that adds is small beside the error.
    assert abs(values.mean().item() - EXACT.structure_ad) < 0.3 * predicted
    covered = sum(abs(run.difficulty.structure_ad - EXACT.structure_ad) < 1.96 * run.standard_error for run in runs)
    assert 0.89 < covered / len(runs) <= 1


def test_intervals_cover_the_population_over_many_sets():
    truth = alignment_difficulty(rows(500, 0.5, 3000), rows(501, 0.45, 3000), feature_range=RANGE)
    covered = {"structure_ad": 0, "ad": 0, "feature_ad": 0}
    for seed in range(150):
        found = streamed(rows(seed, 0.5, 200), rows(seed + 1000, 0.45, 200), 40, seed=seed).difficulty
        for part in covered:
            interval = found.interval(part)
            # The diagonal is zero: a set of n has the factor 1 - 1/n.
            value = getattr(truth, part) - (0.005 - 1 / 3000) * truth.structure_ad * {"ad": 0.2}.get(part, 1) * (
                part != "feature_ad"
            )
            covered[part] += interval.low <= value <= interval.high
    assert all(0.88 < count / 150 <= 1 for count in covered.values()), covered


def test_control_variates_lower_the_error():
    everything = torch.arange(N)
    plain, with_mean, with_twin = (
        torch.tensor([streamed(IMAGE, TEXT, 40, seed=seed, **options).difficulty.structure_ad for seed in range(60)])
        for options in ({"population": everything, "trusted": True}, {"twin": False}, {})
    )
    errors = [(values - EXACT.structure_ad).square().mean().sqrt().item() for values in (plain, with_mean, with_twin)]
    assert errors[2] < 0.6 * errors[0]
    assert errors[1] < 1.15 * errors[0], "at 40 landmarks the mean is of no use here, and of no harm"


def test_the_twin_is_used_where_its_time_pays():
    wide = [rows(seed, 0.0, n=1500, d=64) for seed in (0, 1)]
    many, few = choose_controls(*wide), choose_controls(*(part[:10] for part in wide))
    assert many.twin > 0
    assert few.twin == 0, "its two passes cost more than 10 landmarks do"
    assert many.variance_left < 0.3
    assert choose_controls(*wide, twin=False).twin == 0
    assert choose_controls(*(part[: LEAST_PILOT - 1] for part in wide)).report()["control_variates"] == []
    offset = [torch.nn.functional.normalize(torch.rand(50, 6) + 5), torch.eye(6)[torch.arange(50) % 6]]
    assert choose_controls(*offset).twin == 0, "disparities of one sign are their own mean"
    assert choose_controls(*offset).variance_left < 1e-3
    same = torch.ones(30, 1)
    assert choose_controls(same, same).report() == {"control_variates": [], "variance_left": 1.0}


def test_estimated_and_exact_distances_rank_alike():
    image, text = rows(0, 1.0, 3000), rows(1, 0.9, 3000)
    found = streamed(image, text, 500)
    exact = alignment_difficulty(image, text, feature_range=RANGE).structure_distance[found.drawn]
    torch.testing.assert_close(found.drawn_distance, exact, atol=1e-12, rtol=0)
    assert found.rank_correlation > 0.99


def test_rank_correlation_is_spearmans():
    from scipy.stats import spearmanr

    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randint(0, 9, (50,), generator=generator).double().numpy() for _ in range(2))
    assert rank_correlation(one, other) == pytest.approx(spearmanr(one, other).statistic)
    assert math.isnan(rank_correlation(one, one * 0))


class Together:
    """Threads that add up as processes do."""

    def __init__(self, count):
        self.count, self.given, self.barrier = count, [None] * count, threading.Barrier(count)

    def share(self, index):
        def add_up(tensor):
            self.given[index] = tensor
            self.barrier.wait()
            total = sum(self.given)
            self.barrier.wait()
            return total

        return Share(index=index, count=self.count, add_up=add_up)


@pytest.mark.parametrize("count", [2, 3])
def test_workers_together_give_the_bits_of_one(monkeypatch, count):
    monkeypatch.setattr(columns, "ROWS_AT_ONCE", 32)
    monkeypatch.setattr(set_statistics, "ROWS_AT_ONCE", 32)
    lines, results = [{} for _ in range(count + 1)], [None] * (count + 1)

    def run(index, share):
        def take(rows, scores):
            lines[index][rows.start] = scores["sample_ad"].tolist()

        results[index] = streamed(IMAGE, TEXT, 100, share=share, take=take)

    together = Together(count)
    threads = [threading.Thread(target=run, args=(index, together.share(index))) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run(count, ALONE)
    alone = results[-1]
    assert alone.controls.twin
    for found in results[:-1]:
        assert found.difficulty == alone.difficulty
        assert (found.offset, found.standard_error) == (alone.offset, alone.standard_error)
        assert (found.rank_correlation, found.check) == (alone.rank_correlation, alone.check)
    assert [*lines[0].items(), *(line for part in lines[1:-1] for line in part.items())] == list(lines[-1].items())


class LargestTensor(TorchDispatchMode):
    """Notes the most entries that any tensor made meanwhile has."""

    entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        sizes = [part.numel() for part in tree_leaves(made) if isinstance(part, torch.Tensor)]
        self.entries = max([self.entries, *sizes])
        return made


class RowsFromElsewhere:
    """Features of any number, made of a few as they are asked for."""

    dtype, device, ndim = torch.float32, torch.device("cpu"), 2

    def __init__(self, few, n):
        self.few, self.shape = few.float(), (n, few.shape[1])

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        numbers = torch.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
        return self.few[numbers % len(self.few)]


def test_no_tensor_grows_with_the_set():
    largest = []
    for n in (30_000, 90_000):
        image, text = RowsFromElsewhere(IMAGE, n), RowsFromElsewhere(TEXT, n)
        with LargestTensor() as seen:
            found = streamed(image, text, 200, precision="fp32")
        largest.append(seen.entries)
        assert (found.difficulty.n, bool(found.controls.twin)) == (n, True)
    assert largest[0] == largest[1]


def test_one_landmark_has_no_standard_error():
    found = streamed(IMAGE, TEXT, 1)
    assert math.isnan(found.standard_error)
    assert found.difficulty.summary()["structure_ad_standard_error"] is None
    assert math.isfinite(found.difficulty.ad)


def test_bad_rows_are_named_and_a_bad_range_is_refused(monkeypatch):
    monkeypatch.setattr(set_statistics, "ROWS_AT_ONCE", 32)
    wrong = TEXT.clone()
    wrong[77] = 0
    with pytest.raises(ValueError, match="text is not L2-normalised in row 77"):
        streamed(IMAGE, wrong, 20)
    with pytest.raises(ValueError, match="feature_range is"):
        streamed(IMAGE, TEXT, 20, feature_range=(0.5, 0.5))
