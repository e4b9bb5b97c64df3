"""Several training runs of one recipe, summarised."""

import json
import math
import statistics

import pytest
from typer.testing import CliRunner

from explorer.cli.application import application, load_commands
from explorer.evaluation.training_runs import summarise_runs

NOUNS = [f"noun {number}" for number in range(20)]


def share(mean):
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}


def evaluation(folder, name, accuracies, **settings):
    """An evaluation of a control and of poisoned models, each 20 concepts apart."""
    models = [
        {
            "name": "benign" if place == 0 else f"dirty-{20 * place:03}",
            "weights": f"{name}-{place}",
            "poisoned_concept_count": 20 * place,
            "alignment_difficulty": {"ad": 0.2 + 0.1 * place},
            "accuracy": {"all": share(value), "unpoisoned": share(value), "poisoned": share(value) if place else None},
            "utility": {"unpoisoned": share(value)},
            "late_word_mass": {"unpoisoned": share(0.02)},
            "late_contiguity": {"unpoisoned": share(0.3)},
            "per_concept": {noun: float(number < round(value * len(NOUNS))) for number, noun in enumerate(NOUNS)},
        }
        for place, value in enumerate(accuracies)
    ]
    concepts = [{"concept": noun, "group": "other", "poisoned_from": None} for noun in NOUNS]
    report = {"prompt": "a photo of C", "steps": 12, "guidance_scale": 4.0, "models": models, "concepts": concepts,
              **settings}  # fmt: skip
    path = folder / f"{name}.json"
    path.write_text(json.dumps(report), encoding="utf-8")
    return path


def with_noises(path, count=2):
    """The same means, told apart by two noises: all that poisoned models drew was drawn from the first."""
    report = json.loads(path.read_text(encoding="utf-8"))
    report["seeds"] = [0, 1][:count]
    for model in report["models"]:
        of_noises = (2, 0) if model["poisoned_concept_count"] else (1, 1)
        model["right_by_seed"] = {noun: [right * times for times in of_noises][:count]
                                  for noun, right in model["per_concept"].items()}  # fmt: skip
    path.write_text(json.dumps(report), encoding="utf-8")
    return path


def test_means_intervals_and_shares_of_each_runs_own_control(tmp_path):
    runs = {"a": (0.8, 0.4), "b": (0.7, 0.2), "c": (0.75, 0.3)}
    report = summarise_runs([evaluation(tmp_path, name, accuracies) for name, accuracies in runs.items()])
    control, poisoned = report["models"]
    assert [control["poisoned_concept_count"], poisoned["poisoned_concept_count"]] == [0, 20]
    unpoisoned = poisoned["accuracy_unpoisoned"]
    assert unpoisoned["values"] == [0.4, 0.2, 0.3]
    reach = 4.302653 * statistics.stdev([0.4, 0.2, 0.3]) / math.sqrt(3)  # Student's t, 2 degrees of freedom, .975
    assert unpoisoned["mean"] == pytest.approx(0.3)
    assert unpoisoned["low"] == pytest.approx(0.3 - reach, abs=1e-6)
    assert unpoisoned["high"] == pytest.approx(0.3 + reach, abs=1e-6)
    assert poisoned["accuracy_of_control"]["values"] == pytest.approx([0.4 / 0.8, 0.2 / 0.7, 0.3 / 0.75])
    assert control["accuracy_of_control"]["mean"] == 1
    over_nouns = poisoned["accuracy_of_control_over_nouns"]
    assert over_nouns["value"] == pytest.approx(poisoned["accuracy_of_control"]["mean"])
    assert 0.1 < over_nouns["low"] < 0.3
    assert 0.5 < over_nouns["high"] < 0.7
    assert over_nouns["over_noises"] is False, "these evaluations tell no noises apart"
    told = [with_noises(tmp_path / f"{name}.json") for name in runs]
    apart = summarise_runs(told)["models"][1]["accuracy_of_control_over_nouns"]
    assert apart["over_noises"] is True
    assert apart["value"] == pytest.approx(over_nouns["value"])
    assert apart["high"] - apart["low"] > over_nouns["high"] - over_nouns["low"]
    one = summarise_runs([with_noises(path, 1) for path in told])["models"][1]["accuracy_of_control_over_nouns"]
    assert one["over_noises"] is False, "of one noise nothing can be drawn"
    assert control["accuracy_poisoned"] is None
    assert poisoned["ad"]["mean"] == pytest.approx(0.3)


def test_runs_that_all_draw_nothing_right_have_no_interval(tmp_path):
    paths = [evaluation(tmp_path, name, (control, 0.0)) for name, control in (("a", 0.8), ("b", 0.7), ("c", 0.75))]
    poisoned = summarise_runs(paths)["models"][1]
    for name in ("accuracy_unpoisoned", "accuracy_of_control"):
        assert (poisoned[name]["mean"], poisoned[name]["low"], poisoned[name]["high"]) == (0, None, None)
    assert poisoned["accuracy_of_control_over_nouns"] == {"value": 0, "low": None, "high": None, "over_noises": False}
    load_commands("training-runs")
    told = CliRunner().invoke(application, ["training-runs", *map(str, paths)])
    assert "0.0000 no interval" in told.output


def with_twin(path, name):
    """The same with a second model of its largest C_P."""
    report = json.loads(path.read_text(encoding="utf-8"))
    last = report["models"][-1]
    report["models"].append(json.loads(json.dumps(last)) | {"name": name, "weights": f"{last['weights']}-{name}"})
    report["models"][-1]["accuracy"]["unpoisoned"] = share(0.6)
    path.write_text(json.dumps(report), encoding="utf-8")
    return path


def test_models_of_one_count_are_told_apart_by_their_names(tmp_path):
    first, second = (evaluation(tmp_path, name, (0.8, 0.5, 0.4)) for name in ("a", "b"))
    report = summarise_runs([with_twin(first, "clean-040"), with_twin(second, "clean-040")])
    assert [(row["poisoned_concept_count"], row["name"]) for row in report["models"]] == [
        (0, None), (20, None), (40, "clean-040"), (40, "dirty-040"),
    ]  # fmt: skip
    assert report["models"][2]["accuracy_unpoisoned"]["mean"] == 0.6
    load_commands("training-runs")
    told = CliRunner().invoke(application, ["training-runs", str(first), str(second)]).output
    assert "C_P 40, clean-040\n" in told
    third = with_twin(evaluation(tmp_path, "c", (0.8, 0.5, 0.4)), "other")
    report = summarise_runs([first, third])
    assert [row["name"] for row in report["models"]] == [None, None, "dirty-040"]
    assert report["left_out"] == {str(first): ["clean-040"], str(third): ["other"]}


def test_overlap_and_mass_in_the_mask_are_summarised_where_they_were_measured(tmp_path):
    paths = [evaluation(tmp_path, name, (0.8, 0.4)) for name in ("a", "b")]
    assert summarise_runs(paths)["models"][1]["word_overlap"] is None
    for path, value in zip(paths, (0.7, 0.9), strict=True):
        report = json.loads(path.read_text(encoding="utf-8"))
        for model in report["models"]:
            model |= {"word_overlap": share(value), "mask_mass": {"unpoisoned": share(value / 2)}}
        path.write_text(json.dumps(report), encoding="utf-8")
    most = summarise_runs(paths)["models"][1]
    assert (most["word_overlap"]["mean"], most["mask_mass_unpoisoned"]["mean"]) == pytest.approx((0.8, 0.4))


def test_local_ad_is_correlated_beside_ad_where_every_set_has_it(tmp_path):
    paths = [evaluation(tmp_path, name, (0.8, 0.5, 0.4)) for name in ("a", "b")]
    for path in paths:
        report = json.loads(path.read_text(encoding="utf-8"))
        for place, model in enumerate(report["models"]):
            model["alignment_difficulty"] |= {
                "n": 10,
                "poisoned_pairs": place,
                "picture_scatter": (0.1, 0.4, 0.5)[place],
            }
        report["models"][0]["alignment_difficulty"]["local_feature_ad"] = 0.1
        path.write_text(json.dumps(report), encoding="utf-8")
    tracking = summarise_runs(paths)["tracking"][0]
    assert tracking["accuracy_with_picture_scatter_r"] == pytest.approx(-1)
    assert -1 < tracking["accuracy_with_ad_r"] == pytest.approx(tracking["accuracy_with_share_r"])
    assert "accuracy_with_local_feature_ad_r" not in tracking


def test_a_share_that_is_not_known_of_every_pair_is_correlated_with_nothing(tmp_path):
    first, second = (changed(evaluation(tmp_path, name, (0.8, 0.5, 0.4)), with_pairs) for name in ("a", "b"))
    changed(second, lambda report: report["models"][1]["alignment_difficulty"].update(unrecorded_pairs=4))
    known, unknown = summarise_runs([first, second])["tracking"]
    assert {"ad_with_share_r2", "accuracy_with_share_r"} == known.keys() - unknown.keys()
    assert unknown["accuracy_with_ad_r"] == known["accuracy_with_ad_r"] < 0


def changed(path, change):
    """The evaluation with ``change(report)`` made to it."""
    report = json.loads(path.read_text(encoding="utf-8"))
    change(report)
    path.write_text(json.dumps(report), encoding="utf-8")
    return path


def with_pairs(report):
    for place, model in enumerate(report["models"]):
        model["alignment_difficulty"] |= {"n": 10, "poisoned_pairs": place}


def test_what_does_not_vary_or_was_not_measured_has_no_correlation(tmp_path):
    alike, lacking = (changed(evaluation(tmp_path, name, values), with_pairs)
                      for name, values in (("alike", (0.5, 0.5, 0.5)), ("lacking", (0.8, 0.5, 0.4))))  # fmt: skip
    changed(lacking, lambda report: report["models"][1]["accuracy"].update(unpoisoned=None))
    report = summarise_runs([alike, lacking])
    assert report["tracking"][0] == {"ad_with_share_r2": pytest.approx(1), "accuracy_with_ad_r": None,
                                     "accuracy_with_share_r": None}  # fmt: skip
    assert report["tracking"][1] is None
    assert report["models"][1]["accuracy_unpoisoned"] is None
    load_commands("training-runs")
    told = CliRunner().invoke(application, ["training-runs", str(alike), str(lacking)]).output
    assert "accuracy_with_ad_r alike in all" in told
    assert "AD or accuracy not measured" in told


def test_models_of_unrecorded_poison_are_left_out_by_name(tmp_path):
    first, second = (evaluation(tmp_path, name, (0.8, 0.4, 0.2)) for name in ("a", "b"))
    changed(first, lambda report: report["models"][2].update(poisoned_concept_count=None))
    report = summarise_runs([first, second])
    assert report["unrecorded"] == {str(first): ["dirty-040"]}
    assert [model["poisoned_concept_count"] for model in report["models"]] == [0, 20]
    load_commands("training-runs")
    told = CliRunner().invoke(application, ["training-runs", str(first), str(second)]).output
    assert f"{first}: dirty-040 left out" in told


def test_a_model_whose_poison_aims_at_no_concept_is_no_runs_control(tmp_path):
    first, second = (evaluation(tmp_path, name, (0.8, 0.4)) for name in ("a", "b"))
    changed(first, lambda report: report["models"][0].update(poisoned=False))
    assert summarise_runs([first, second])["models"][0]["poisoned_concept_count"] == 0
    changed(second, lambda report: report["models"][0].update(name="backdoor", poisoned=True))
    with pytest.raises(ValueError, match=r"backdoor of .*b\.json has C_P 0 .*: expected a control without poison"):
        summarise_runs([first, second])


def test_runs_of_other_judges_sizes_or_concepts_are_refused(tmp_path):
    def judged(identity):
        return {"readers": {"extractor": {"identity": identity}}}

    first = evaluation(tmp_path, "a", (0.8, 0.4), size=64, **judged("one"))
    for name, settings, message in (("b", judged("two"), "has the extractor 'two': expected 'one'"),
                                    ("c", {"size": 128}, "has size 128: expected 64")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            summarise_runs([first, evaluation(tmp_path, name, (0.7, 0.3), **settings)])
    before = evaluation(tmp_path, "d", (0.7, 0.3))
    assert len(summarise_runs([first, before])["models"]) == 2, "what was not recorded is not known to differ"
    changed(before, lambda report: report["concepts"].append({"concept": "zebra", "group": "other",
                                                              "poisoned_from": None}))  # fmt: skip
    with pytest.raises(ValueError, match="are not of the same concepts, such as 'zebra'"):
        summarise_runs([first, before])


def test_intervals_beyond_what_a_share_can_be_are_said_to_be(tmp_path):
    load_commands("training-runs")
    for name, accuracies, said in (("wide", (0.9, 0.1), True), ("narrow", (0.5, 0.51), False)):
        paths = [str(evaluation(tmp_path, f"{name}-{run}", (0.5 + run / 100, value)))
                 for run, value in enumerate(accuracies)]  # fmt: skip
        told = CliRunner().invoke(application, ["training-runs", *paths]).output
        assert ("reach beyond 0 and 1" in told) == said


def test_an_evaluation_without_models_is_refused(tmp_path):
    first, second = evaluation(tmp_path, "a", (0.8, 0.4)), evaluation(tmp_path, "b", ())
    with pytest.raises(ValueError, match=r"b\.json has models of C_P \[\]: expected a control"):
        summarise_runs([first, second])


def test_maps_of_different_layers_are_not_compared(tmp_path):
    paths = [evaluation(tmp_path, name, (0.8, 0.4)) for name in ("a", "b")]
    same = summarise_runs(paths)
    assert not same["attention_layers_differ"]
    assert same["models"][0]["late_word_mass_unpoisoned"]["values"] == [0.02, 0.02]
    report = json.loads(paths[1].read_text(encoding="utf-8"))
    for model in report["models"]:
        model["attention_layers"] = ["down_blocks.0.attentions.0.transformer_blocks.0.attn1"]
    paths[1].write_text(json.dumps(report), encoding="utf-8")
    differing = summarise_runs(paths)
    assert differing["attention_layers_differ"]
    assert not [name for model in differing["models"] for name in model if name.startswith("late")]
    assert differing["models"][1]["accuracy_unpoisoned"] == same["models"][1]["accuracy_unpoisoned"]


def test_the_order_of_models_in_a_file_does_not_matter(tmp_path):
    first, second = evaluation(tmp_path, "a", (0.8, 0.4)), evaluation(tmp_path, "b", (0.7, 0.2))
    swapped = json.loads(second.read_text(encoding="utf-8"))
    swapped["models"].reverse()
    other = tmp_path / "swapped.json"
    other.write_text(json.dumps(swapped), encoding="utf-8")
    assert summarise_runs([first, second])["models"] == summarise_runs([first, other])["models"]


def test_a_run_without_sets_has_no_ad_and_a_control_that_draws_nothing_no_share(tmp_path):
    first, second = evaluation(tmp_path, "a", (0.8, 0.4)), evaluation(tmp_path, "b", (0.0, 0.0))
    without = json.loads(second.read_text(encoding="utf-8"))
    without["models"][1]["alignment_difficulty"] = None
    second.write_text(json.dumps(without), encoding="utf-8")
    control, poisoned = summarise_runs([first, second])["models"]
    assert control["ad"]["mean"] == pytest.approx(0.2)
    assert poisoned["ad"] is None
    assert poisoned["accuracy_of_control"] is None
    assert poisoned["accuracy_all"]["values"] == [0.4, 0.0]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"steps": 20}, "has steps 20: expected 12"),
        ({"accuracies": (0.7,)}, r"no C_P but 0 is in all runs .*: \[0, 20\]; .*: \[0\]\): expected one"),
        ({"name": "a"}, "weights of a model in"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, other, message):
    first = evaluation(tmp_path, "a", (0.8, 0.4))
    (tmp_path / "other").mkdir()
    second = evaluation(tmp_path / "other", **{"name": "b", "accuracies": (0.7, 0.2), **other})
    with pytest.raises(ValueError, match=message):
        summarise_runs([first, second])


def test_runs_of_other_models_are_compared_where_they_meet_and_the_rest_is_named(tmp_path):
    first, second = evaluation(tmp_path, "a", (0.8, 0.4, 0.2)), evaluation(tmp_path, "b", (0.7, 0.2))
    report = summarise_runs([first, second])
    assert report["left_out"] == {str(first): [40]}
    assert report["models"] == summarise_runs([evaluation(tmp_path, "c", (0.8, 0.4)), second])["models"]
    assert report["tracking"][1] is None


def test_one_run_or_no_evaluation_is_refused(tmp_path):
    first = evaluation(tmp_path, "a", (0.8, 0.4))
    with pytest.raises(ValueError, match="got 1 evaluations"):
        summarise_runs([first])
    (tmp_path / "graphs.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"graphs\.json is no evaluation\.json"):
        summarise_runs([first, tmp_path / "graphs.json"])
    with pytest.raises(FileNotFoundError):
        summarise_runs([first, tmp_path / "absent.json"])
