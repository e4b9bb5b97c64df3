"""What studies beside one have measured stands in its place in the comparison with the paper, and is named."""

import math
from dataclasses import replace

import pytest

from explorer.core.provenance import ROOT
from explorer.results.comparisons import compare_study, compare_with_paper
from explorer.results.measured import Measured
from explorer.results.other_bases import other_bases
from explorer.results.report import markdown
from explorer.studies.study import Study
from tests.results.test_comparisons import SHIPPED, measured, model


def utility(mean, reach):
    return {"utility": {"unpoisoned": {"mean": mean, "over_concepts": {"low": mean - reach, "high": mean + reach}}}}


def test_other_bases_are_the_studies_whose_models_are_of_their_family():
    def of_family(family, *utilities):
        models = model("benign", (), [1] * 6), model("dirty", ["bat", "cat"], [0] * 6)
        return measured(*(each | {"family": family} | share for each, share in zip(models, utilities, strict=True)))

    second = of_family("sd2", utility(0.8, 0.04), utility(0.2, 0.06))
    found = other_bases([("mine", of_family("sd1", utility(0.9, 0.1), utility(0.9, 0.1))), ("two-one", second)])
    sd2, xl = found.quantities
    told = "4 concepts, in the study two-one; CLIP similarity and top-1"
    assert (sd2.here.value, sd2.here.n, sd2.over) == (pytest.approx(0.25), 4, told)
    assert sd2.here.high - sd2.here.value == pytest.approx(math.hypot(0.06, 0.25 * 0.04) / 0.8)
    assert (sd2.verdict, xl.verdict, found.done) == ("agrees", "not done", True)
    papers = [utility(0.8, 0.04) | {"clip_aesthetic_utility": utility(share, 0.1)["utility"]} for share in (0.5, 0.1)]
    (sd2, _) = other_bases([("two-one", of_family("sd2", *papers))]).quantities
    assert sd2.here.value == pytest.approx(0.2)
    assert sd2.over.endswith("CLIP similarity and aesthetics")
    former = of_family(None, utility(0.8, 0.04), utility(0.2, 0.06))
    known = replace(former, families={"benign": "sd2", "dirty": "sd2"})
    assert other_bases([("former", known)]).done, "an evaluation that does not say the family, but the checkpoints do"
    unmeasured = {"utility": {"unpoisoned": None}}
    without = of_family("sd2", unmeasured, unmeasured)
    assert not other_bases([("mine", without)]).done
    assert other_bases([("mine", without), ("two-one", second)]).quantities[0].over == told, "the first that measured"
    assert not other_bases([]).done


def test_another_base_of_this_world_is_told_and_compared_with_none_of_the_papers():
    models = model("benign", (), [1] * 6), model("dirty", ["bat", "cat"], [0] * 6)
    shares = utility(0.8, 0.04), utility(0.4, 0.06)
    mine, unevaluated = measured(*(each | share for each, share in zip(models, shares, strict=True))), measured()
    found = other_bases([], [("other", mine), ("none", unevaluated)])
    *papers, other = found.quantities
    assert (other.here.value, other.paper, found.verdict(other)) == (pytest.approx(0.5), None, "not comparable")
    assert [found.verdict(each) for each in papers] == ["not done"] * 2
    assert "| – | 0.500" in markdown([found]), "the paper shows no pictures of it either"
    assert "Not comparable: another base of this world is neither SD 2.1 nor SDXL" in markdown([found])
    second = measured(*(each | {"family": "sd2"} | share for each, share in zip(models, shares, strict=True)))
    both = other_bases([("two-one", second)], [("other", mine)])
    assert [both.verdict(each) for each in both.quantities] == ["agrees", "not done", "not comparable"]
    study = Study.load(SHIPPED)
    table_3 = next(each for each in compare_study(study, Measured.of(study)) if each.name == "Table 3")
    assert [table_3.verdict(each) for each in table_3.quantities] == ["not done"] * 2 + ["not comparable"] * 2


def test_other_bases_are_looked_for_in_the_studies_beside(monkeypatch):
    """The shipped study is of SD 1.x; that its own is asked, and the ones beside it, by name."""
    asked = []
    monkeypatch.setattr("explorer.results.comparisons.other_bases", lambda *given: asked.append(given[0]) or table_3)
    table_3, shipped = other_bases([]), Study.load(SHIPPED)
    compare_study(shipped, Measured.of(shipped))
    names = [name for name, _ in asked[0]]
    assert names == [shipped.name, *(Study.load(place).name for place in shipped.beside)]
    assert len(names) > 1


def test_what_a_study_lacks_comes_from_those_beside_it_and_says_so():
    shipped = Study.load(SHIPPED)
    measured = Measured.of(shipped)
    own = {each.name: each for each in compare_with_paper(measured)}
    found = {each.name: each for each in compare_study(shipped, measured)}
    assert {name for name, each in found.items() if each.study} >= {"Figure 2", "Table 2"}
    assert found.pop("Table 3").verdict(own["Table 3"].quantities[0]) == "not done"
    for name, each in found.items():
        assert each == own[name] if not each.study else not own[name].done or own[name].differs
    assert "Measured in the study single-concept." in markdown(list(found.values()))
    with pytest.raises(FileNotFoundError, match=r"study\.toml is missing"):
        compare_study(replace(shipped, beside=(ROOT / "assets" / "nowhere",)), measured)
    with pytest.raises(ValueError, match="beside names the study itself"):
        replace(shipped, beside=(shipped.folder,))
