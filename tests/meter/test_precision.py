"""How many concepts and draws are enough, against means drawn over and over."""

import numpy as np
import pytest

from explorer.meter.precision import CONCEPTS, DRAWS, precision_report, ratio_standard_errors, standard_error


def test_it_is_what_means_of_so_many_scatter_by():
    generator = np.random.default_rng(0)
    among, of_draws = 0.3, 0.5

    def measured(studies, concepts, draws):
        own = generator.normal(1, among, (studies, concepts, 1))
        return own + generator.normal(0, of_draws, (studies, concepts, draws))

    seen = measured(1, 4000, 4)[0]
    errors = seen.std(1, ddof=1) / 2
    for concepts, draws in ((10, 1), (10, 8), (40, 2)):
        expected = measured(4000, concepts, draws).mean((1, 2)).std()
        found = standard_error(seen.mean(1), errors, 4, concepts=concepts, draws_instead=draws)
        assert found == pytest.approx(expected, rel=0.06)


def test_draws_that_explain_everything_leave_nothing_among_concepts():
    found = standard_error(np.ones(5), np.full(5, 0.2), 2, concepts=4, draws_instead=8)
    assert found == pytest.approx(0.2 / 2 / 2)


def test_a_ratios_errors_leave_out_what_both_models_share():
    generator = np.random.default_rng(1)

    def ratios(studies, concepts, draws):
        """Of a model that hears .5 of each word and draw, give or take, that the reference hears."""
        reference = generator.normal(1, 0.3, (studies, concepts, 1)) + generator.normal(
            0, 0.5, (studies, concepts, draws)
        )
        return 0.5 * reference + generator.normal(0, 0.05, reference.shape), reference

    seen = [each[0] for each in ratios(1, 4000, 4)]
    values, errors = ratio_standard_errors(*seen)
    alone = standard_error(seen[0].mean(1), seen[0].std(1, ddof=1) / 2, 4, concepts=20, draws_instead=2)
    for concepts, draws in ((20, 2), (40, 1)):
        one, other = ratios(4000, concepts, draws)
        expected = (one.mean((1, 2)) / other.mean((1, 2))).std()
        found = standard_error(values, errors, 4, concepts=concepts, draws_instead=draws)
        assert found == pytest.approx(expected, rel=0.08)
        assert found < alone / 4


@pytest.fixture
def meter():
    measured = {"per_concept": [1.0, 2.0, 3.0, 9.0], "standard_error": [0.1, 0.1, 0.1, 0.1],
                "groups": {"all": {}, "unpoisoned": {}}}  # fmt: skip
    concepts = [{"group": "other", "poisoned_from": None}] * 2 + [
        {"group": "other", "poisoned_from": 4}, {"group": "pool", "poisoned_from": None}
    ]  # fmt: skip
    return {"draws": 2, "concepts": concepts, "reference": "benign",
            "models": [{"name": "benign", "measures": {"sensitivity": measured}}]}  # fmt: skip


def test_concepts_of_a_group_are_chosen(meter):
    (found,) = precision_report(meter, "unpoisoned")
    assert (found["mean"], found["concepts"]) == (1.5, 2)
    assert np.shape(found["errors"]) == (len(CONCEPTS), len(DRAWS))
    assert precision_report(meter, "all")[0]["mean"] == 3.75
    assert found["ratio"] is None


def test_the_ratio_is_told_where_the_draws_are_kept(meter):
    benign = meter["models"][0]["measures"]["sensitivity"]
    draws = np.array(benign["per_concept"])[:, None] + [-0.1, 0.1]
    benign["draws"] = draws.tolist()
    half = benign | {"per_concept": [0.5, 1, 1.5, 4.5], "draws": (draws / 2).tolist(), "relative": [0.5] * 4}
    models = [*meter["models"], {"name": "half", "measures": {"sensitivity": half}}]
    reference, found = precision_report(meter | {"models": models}, "unpoisoned")
    assert reference["ratio"] is None
    assert found["ratio"]["value"] == pytest.approx(0.5)
    assert np.allclose(found["ratio"]["errors"], 0), "the same half of every concept and draw"
    del half["draws"]
    assert precision_report(meter | {"models": models}, "unpoisoned")[1]["ratio"] is None


def test_what_cannot_be_told_is_refused(meter):
    with pytest.raises(ValueError, match="group is 'pool': expected one of all, unpoisoned"):
        precision_report(meter, "pool")
    with pytest.raises(ValueError, match="has 1 draw: expected at least 2"):
        precision_report(meter | {"draws": 1}, "all")
    meter["models"][0]["measures"]["sensitivity"]["groups"]["unpoisoned"] = None
    with pytest.raises(ValueError, match="model benign has no two concepts known to be of the group unpoisoned"):
        precision_report(meter, "unpoisoned")
