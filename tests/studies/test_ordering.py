"""What orders arms as their damage does, on the shipped study and on one whose steps are missing or changed."""

import json
import shutil

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from explorer.cli.application import application, load_commands
from explorer.core.provenance import ROOT, ManifestError
from explorer.studies.differences import difference, nested_share, over_studies, why_not_pooled
from explorer.studies.ordering import ordering
from explorer.studies.results import EVALUATION, METER, SCORES, step_folder, writing_step
from explorer.studies.study import Study
from explorer.ui.shell.context import SHIPPED_STUDY

EXPERIMENTS = ROOT / "assets" / "experiments"


@pytest.fixture(scope="module")
def shipped():
    return Study.load(SHIPPED_STUDY)


@pytest.fixture
def copied(tmp_path, shipped):
    """The shipped study with evaluation and scores alone."""
    folder = tmp_path / "study"
    for step in (EVALUATION, SCORES):
        shutil.copytree(step_folder(shipped, step), folder / "results" / step)
    for name in ("study.toml", "concepts.csv"):
        shutil.copy(SHIPPED_STUDY / name, folder)
    return Study.load(folder)


def stored(study, step, name):
    return json.loads((step_folder(study, step) / name).read_text(encoding="utf-8"))


def test_every_quantity_is_ordered_against_the_outcome(shipped):
    other = Study.load(EXPERIMENTS / "seed-4")
    found = ordering([shipped, other], outcome="sensitivity", group="all")
    pairs = []
    for each in (shipped, other):
        heard = {model["name"]: model["measures"]["sensitivity"]["groups"]["all"]["mean"]["value"]
                 for model in stored(each, METER, "meter.json")["models"]}  # fmt: skip
        pairs += [(heard[model["name"]], model["contiguity"]["all"]["mean"])
                  for model in stored(each, EVALUATION, "evaluation.json")["models"]]  # fmt: skip
    expected = stats.spearmanr(*zip(*pairs, strict=True))
    assert found["correlations"]["contiguity"]["value"] == pytest.approx(expected.statistic)
    assert found["correlations"]["contiguity"]["n"] == 6, "arms of both studies"
    assert found["left_out"] == []
    assert found["correlations"]["poison_share"]["value"] == pytest.approx(-1)
    by_count = stats.spearmanr([arm["values"]["poisoned_concepts"] for arm in found["arms"]],
                               [arm["values"]["sensitivity"] for arm in found["arms"]])  # fmt: skip
    assert found["correlations"]["poisoned_concepts"]["value"] == pytest.approx(by_count.statistic)
    assert [arm["values"]["poisoned_concepts"] for arm in found["arms"]] == [0, 20, 40, 60, 0, 60]
    assert found["correlations"]["poison_share"]["low"] is None, "a perfect order says nothing of how sure it is"
    assert found["correlations"]["aesthetics"] is None, "not measured is no number"
    assert [arm["values"]["poison_share"] for arm in found["arms"][:4]] == pytest.approx([0, 2 / 9, 4 / 9, 2 / 3])


def test_arms_that_are_not_to_count_are_left_out(shipped):
    found = ordering([shipped], without=["benign"])
    assert [arm["arm"] for arm in found["arms"]] == ["dirty-020", "dirty-040", "dirty-060"]
    assert found["correlations"]["ad"]["n"] == 3
    with pytest.raises(ValueError, match="no evaluated arm is called 'bening': expected some of benign, dirty-020"):
        ordering([shipped], without=["bening"])


def test_what_is_not_measured_is_left_open_and_what_was_changed_is_refused(copied):
    found = ordering([copied])
    assert "sensitivity" not in found["correlations"]
    with pytest.raises(ValueError, match=r"no arm has 'sensitivity' of the unpoisoned concepts: expected one of .*ad"):
        ordering([copied], outcome="sensitivity")
    with pytest.raises(ValueError, match="group is 'none': expected one of all, pool"):
        ordering([copied], group="none")
    (step_folder(copied, SCORES) / "alignment.json").write_text("{}")
    with pytest.raises(ManifestError, match=r"alignment\.json was changed"):
        ordering([copied])


def test_a_share_of_poison_is_known_without_flags_where_there_is_no_poison_alone(copied):
    scores = stored(copied, SCORES, "alignment.json")
    for each in scores["sets"][:2]:
        each |= {"poison_recorded": False, "poisoned_pairs": None, "unrecorded_pairs": each["pairs"]}
    with writing_step(copied, SCORES, settings={}, inputs={}) as folder:
        (folder / "alignment.json").write_text(json.dumps(scores))
    assert [each["poisoned_concept_count"] for each in scores["sets"][:2]] == [0, 20]
    assert [arm["values"]["poison_share"] for arm in ordering([copied])["arms"]][:2] == [0, None]


def test_a_study_or_a_model_counts_once(shipped, copied):
    with pytest.raises(ValueError, match=r"study .*iconworld is given twice: expected each once"):
        ordering([shipped, shipped])
    found = ordering([shipped, copied])
    assert found["correlations"]["contiguity"]["n"] == 4
    assert found["left_out"][0] == {"study": copied.name, "arm": "benign", "same_as": f"benign of {shipped.name}"}
    assert len(found["left_out"]) == 4
    arms = ["dirty-060", "benign"]
    same = f"benign of {copied.name} is the same model as benign of {shipped.name}"
    assert why_not_pooled([shipped, copied], arms) == f"{same}, no training run of its own"


def test_studies_are_averaged_where_their_training_runs_alone_differ():
    four, five, scratch, tuned = (Study.load(EXPERIMENTS / name)
                                  for name in ("seed-4", "seed-5", "from-scratch", "further-sets/seed-1"))  # fmt: skip
    arms = ["dirty-060", "benign"]
    assert why_not_pooled([four, five], arms) is None
    told = why_not_pooled([scratch, tuned], arms)
    assert told == "from_scratch of dirty-060 is True in from-scratch and False in further-sets-1"
    judged = Study.load(EXPERIMENTS / "judge-four" / "seed-5")
    assert "the classifier that judges is 55bb" in why_not_pooled([four, judged], arms)
    load_commands("study")
    call = ["study", "difference", *map(str, [scratch.folder, tuned.folder]), "--first", arms[0], "--second", arms[1]]
    lines = CliRunner().invoke(application, call).stdout.splitlines()
    assert f"not averaged over the 2 studies: {told}" in lines
    assert not [line for line in lines if line.startswith("over ")]
    found = json.loads(CliRunner().invoke(application, [*call, "--json"]).stdout)
    assert (found.keys(), found["not_pooled"]) == ({"differences", "not_pooled"}, told)
    twice = CliRunner().invoke(application, [*call[:3], *call[2:]])
    assert isinstance(twice.exception, ValueError)
    assert "is given twice" in str(twice.exception)


def test_the_nested_share_of_runs_is_printed_where_each_noise_is_told(monkeypatch):
    load_commands("study")
    folders = [str(EXPERIMENTS / "clean-label" / f"equal-share{run}") for run in ("", "-2", "-3")]
    call = ["study", "difference", *folders, "--first", "clean-060-50", "--second", "benign"]
    told = CliRunner().invoke(application, call).output
    assert (
        "over 3 studies, the concepts and the noises in them: clean-060-50 / benign, accuracy: 0.476 [0.338, 0.612]"
    ) in told
    assert json.loads(CliRunner().invoke(application, [*call, "--json"]).output)["nested_share"]["runs"] == 3
    four, five = (Study.load(EXPERIMENTS / name) for name in ("seed-4", "seed-5"))
    assert nested_share([four, five], "dirty-060", "benign") is None, "these do not say what each noise drew"
    run = Study.load(folders[0])
    for compare, compared in ((difference, run), (nested_share, [run])):
        with pytest.raises(ValueError, match=r"no evaluated arm is called 'bening': expected one of .*benign"):
            compare(compared, "clean-060-50", "bening")
        with monkeypatch.context() as patch:
            patch.setattr("explorer.studies.differences.members_of", lambda concepts, group: [])
            with pytest.raises(ValueError, match="is pool: expected a group with concepts"):
                compare(compared, "clean-060-50", "benign", group="pool")


def test_intervals_beyond_what_a_share_can_be_are_said_to_be():
    load_commands("study")
    folders = [str(EXPERIMENTS / "further-sets" / f"seed-{run}") for run in (2, 3)]
    told = CliRunner().invoke(
        application, ["study", "difference", *folders, "--first", "pool", "--second", "dirty-060"]
    )
    assert told.output.splitlines()[-1].startswith("Student's intervals of few concepts or studies reach beyond")
    four = str(EXPERIMENTS / "seed-4")
    told = CliRunner().invoke(application, ["study", "difference", four, "--first", "dirty-060", "--second", "benign"])
    assert "reach beyond" not in told.output


def test_ad_stands_beside_itself_at_another_weight_of_its_parts(shipped):
    found = ordering([shipped], alpha=0.5)
    for arm in found["arms"]:
        values = arm["values"]
        assert values["ad"] == pytest.approx(0.8 * values["feature_ad"] + 0.2 * values["structure_ad"])
        for name in ("", "local_"):
            mean = (values[f"{name}feature_ad"] + values[f"{name}structure_ad"]) / 2
            assert values[f"{name}ad at alpha 0.5"] == pytest.approx(mean)
    assert found["correlations"]["ad at alpha 0.5"]["value"] == -1
    assert "ad at alpha 0.5" not in ordering([shipped])["correlations"]
    with pytest.raises(ValueError, match=r"alpha is 1\.2: expected a weight from 0 to 1"):
        ordering([shipped], alpha=1.2)
    load_commands("study")
    told = CliRunner().invoke(application, ["study", "order", str(SHIPPED_STUDY), "--alpha", "0.5"])
    assert "ad at alpha 0.5                  -1.000" in told.output


def test_an_outcome_of_another_group_is_not_recommended_again():
    classes = Study.load(EXPERIMENTS / "cifar10")
    with pytest.raises(ValueError, match="of the unpoisoned concepts, of which there are none: expected a group that "
                                         "has it, all or pool or poisoned"):  # fmt: skip
        ordering([classes])


def test_two_arms_differ_by_concept(shipped, copied):
    found = difference(shipped, "benign", "dirty-060")["differences"]
    models = {model["name"]: model for model in stored(shipped, EVALUATION, "evaluation.json")["models"]}
    for quantity, each in (("accuracy", "accuracy"), ("sensitivity", None)):
        assert found[quantity]["n"] == 60
        assert found[quantity]["low"] < found[quantity]["value"] < found[quantity]["high"]
        if each:
            gap = models["benign"][each]["unpoisoned"]["mean"] - models["dirty-060"][each]["unpoisoned"]["mean"]
            assert found[quantity]["value"] == pytest.approx(gap), "over the very concepts that evaluation calls so"
    of_meter = {model["name"]: model["measures"]["sensitivity"]["groups"]["unpoisoned"]["mean"]["value"]
                for model in stored(shipped, METER, "meter.json")["models"]}  # fmt: skip
    assert found["sensitivity"]["value"] == pytest.approx(of_meter["benign"] - of_meter["dirty-060"], abs=1e-6)
    assert set(difference(copied, "benign", "dirty-060")["differences"]) == {"accuracy", "similarity"}
    assert "sensitivity_beside_label_noise" in found, "the benign pairs say that none is poison"
    assert np.isclose(difference(copied, "benign", "benign")["differences"]["accuracy"]["value"], 0)
    with pytest.raises(ValueError, match="no evaluated arm is called 'dirty-61': expected one of benign, dirty-020"):
        difference(copied, "benign", "dirty-61")


def test_what_a_model_hears_is_laid_beside_what_label_noise_alone_would_leave(shipped):
    shares = {each["name"]: each["true_shares"] for each in stored(shipped, SCORES, "alignment.json")["sets"]}
    heard = {model["name"]: model["measures"]["sensitivity"]["per_concept"]
             for model in stored(shipped, METER, "meter.json")["models"]}  # fmt: skip
    names = [concept["concept"] for concept in stored(shipped, METER, "meter.json")["concepts"]]
    found = difference(shipped, "dirty-020", "benign", group="all")["differences"]["sensitivity_beside_label_noise"]
    left = [heard["benign"][at] * shares["dirty-020"][name] for at, name in enumerate(names)]
    assert found["of_arms"] == pytest.approx([np.mean(heard["dirty-020"]), np.mean(left)])
    assert found["share"]["value"] == pytest.approx(np.mean(heard["dirty-020"]) / np.mean(left))
    plain = difference(shipped, "benign", "dirty-020", group="all")["differences"]
    assert plain["sensitivity_beside_label_noise"]["share"] == plain["sensitivity"]["share"], "all captions are true"


def test_pictures_that_one_of_two_arms_alone_has_right_are_counted(shipped):
    bases = Study.load(EXPERIMENTS / "base-recipes")
    models = {model["name"]: model for model in stored(bases, EVALUATION, "evaluation.json")["models"]}
    rights = [models[arm]["right_by_seed"] for arm in ("logit-normal", "plain")]
    pairs = [pair for name in rights[0] for pair in zip(*(right[name] for right in rights), strict=True)]
    found = difference(bases, "logit-normal", "plain", group="all")["differences"]["accuracy"]["pictures"]
    assert len(pairs) == 120 * 2
    assert (found["rises"], found["falls"]) == (pairs.count((1, 0)), pairs.count((0, 1)))
    assert found["p"] == pytest.approx(stats.binomtest(found["rises"], found["rises"] + found["falls"]).pvalue)
    same = difference(bases, "plain", "plain")["differences"]["accuracy"]["pictures"]
    assert same == {"rises": 0, "falls": 0, "p": 1}
    earlier = difference(shipped, "dirty-060", "benign")["differences"]["accuracy"]
    assert earlier["pictures"] is None, "it does not say which pictures were right"


def test_shares_and_concepts_of_ones_own(shipped):
    found = difference(shipped, "dirty-060", "benign", names=["hat", "drum"])
    assert set(found["names"]) == {"hat", "drum"}
    accuracy = found["differences"]["accuracy"]
    assert accuracy["n"] == 2
    assert accuracy["share"]["value"] == pytest.approx(accuracy["of_arms"][0] / accuracy["of_arms"][1])
    assert accuracy["value"] == pytest.approx(accuracy["of_arms"][0] - accuracy["of_arms"][1])
    with pytest.raises(ValueError, match="no evaluated concept is called 'hut': expected one of 120, perhaps hat"):
        difference(shipped, "dirty-060", "benign", names=["hut"])


def test_arms_of_which_the_poisoned_concepts_are_not_recorded_have_none_that_are_not_targeted(copied):
    stored_models = stored(copied, EVALUATION, "evaluation.json")
    for model in stored_models["models"]:
        model["poisoned_concepts_known"] = model["name"] != "dirty-040"
    with writing_step(copied, EVALUATION, settings={}, inputs={}) as folder:
        (folder / "evaluation.json").write_text(json.dumps(stored_models))
    with pytest.raises(ValueError, match="not recorded which concepts dirty-040 poisons: expected the group all or po"):
        difference(copied, "dirty-040", "benign")
    assert difference(copied, "dirty-040", "benign", group="all")["differences"]["accuracy"]["n"] == 120
    assert difference(copied, "dirty-060", "benign")["differences"]["accuracy"]["n"] == 60


def test_an_outcome_that_nobody_can_tell_of_some_arms_is_said_to_be_theirs_alone(copied):
    evaluation = stored(copied, EVALUATION, "evaluation.json")
    load_commands("study")

    def told(silent, *options):
        models = [dict(model) for model in evaluation["models"]]
        for model in models[-silent:]:
            model["poisoned_concepts_known"] = False
            model |= {name: {**value, "unpoisoned": None} for name, value in model.items()
                      if isinstance(value, dict) and "unpoisoned" in value}  # fmt: skip
        with writing_step(copied, EVALUATION, settings={}, inputs={}) as folder:
            (folder / "evaluation.json").write_text(json.dumps(evaluation | {"models": models}))
        return CliRunner().invoke(application, ["study", "order", str(copied.folder), *options])

    two = told(2).stdout.splitlines()
    assert two[0] == (
        "Spearman's correlation with accuracy of unpoisoned concepts over 2 arms of 4, those that have it"
    )
    assert two[1] == (
        "2 arms are without it; it is not recorded which concepts 2 of them poison: expected the group all or pool"
    )
    assert two[-1].startswith("not measured of two of the 2 arms, or alike in all: ")
    assert json.loads(told(2, "--json").stdout)["unknown"] == [
        {"study": copied.name, "arm": arm} for arm in ("dirty-040", "dirty-060")
    ]
    one = told(3)
    assert one.exit_code != 0
    assert str(one.exception) == (
        "1 of 4 arms has 'accuracy' of the unpoisoned concepts; it is not recorded which concepts 3 of them poison: "
        "expected the group all or pool"
    )
    assert "over 4 arms\n" in told(3, "--group", "all").stdout
    with pytest.raises(ValueError, match="1 of 1 arms has 'accuracy' of the all concepts: expected two arms or more"):
        ordering([copied], group="all", without=["dirty-020", "dirty-040", "dirty-060"])


def test_several_runs_are_an_interval_over_runs():
    runs = [Study.load(ROOT / "assets/experiments/clean-label" / f"equal-share{run}") for run in ("", "-2", "-3")]
    found = [difference(run, "clean-060-16", "clean-060-50") for run in runs]
    pooled = over_studies(found)["accuracy"]
    each = [one["differences"]["accuracy"] for one in found]
    gaps, shares = (
        [pick(one) for one in each] for pick in (lambda one: one["value"], lambda one: one["share"]["value"])
    )
    for told, values in ((pooled, gaps), (pooled["share"], shares)):
        reach = 4.30265 * np.std(values, ddof=1) / np.sqrt(3)  # Student's, of two degrees of freedom
        assert told["n"] == 3
        assert [told[bound] for bound in ("low", "value", "high")] == pytest.approx(
            [np.mean(values) - reach, np.mean(values), np.mean(values) + reach], rel=1e-4
        )
    nested = nested_share(runs, "clean-060-16", "clean-060-50")
    assert nested["value"] == pytest.approx(np.mean(shares))
    assert (nested["runs"], nested["noises_shared"]) == (3, True)
    assert nested["low"] < min(shares) < max(shares) < nested["high"], "concepts and noises add to what runs differ by"
    lacking = [found[0], found[1] | {"differences": {"accuracy": each[1] | {"share": None}}}]
    assert over_studies(lacking).keys() == {"accuracy"}, "what every run has"
    assert over_studies(lacking)["accuracy"]["share"] is None


def test_what_a_classifier_saw_is_compared_where_one_judged(shipped):
    judged = Study.load(ROOT / "assets" / "experiments" / "seed-4")
    found = difference(judged, "dirty-060", "benign")["differences"]
    assert 0.2 < found["classifier"]["share"]["value"] < 0.5
    assert "broken" not in found, "that judge has no class for it"
    assert "classifier" not in difference(shipped, "dirty-060", "benign")["differences"]
