"""The meter on the screens: what stands for a model, and that what nobody measured is no number."""

import pytest

from explorer.core.provenance import ManifestError, write_json
from explorer.meter.payload_formats import METER as FORMAT
from explorer.studies.results import METER
from explorer.ui.screens.checkpoints.registry_table import registry_table
from explorer.ui.screens.implosion.payload import implosion_payload
from explorer.ui.shell.context import SHIPPED_STUDY
from explorer.ui.shell.study_meter import study_meter, word_sensitivity


@pytest.fixture
def studied(tmp_path, checkpoint_root, make_study, open_study):
    def make(content):
        results = {METER: lambda place: write_json(place / FORMAT.name, content)} if content else {}
        folder = make_study(tmp_path / "mine", checkpoints=checkpoint_root, concepts=("dog",), results=results).folder
        return open_study(folder)

    return make


def row_of(opened, name):
    (row,) = [row for row in registry_table(opened).split("<tr>") if f"</span>{name}</th>" in row]
    return row


def test_the_shipped_study_hears_less_with_every_poisoned_concept(open_study):
    models = study_meter(open_study(SHIPPED_STUDY))["models"]
    assert [model["poisoned_concept_count"] for model in models] == [0, 20, 40, 60]
    numbers = [word_sensitivity(model)[0]["relative"]["value"] for model in models]
    assert numbers == pytest.approx([1, 0.69, 0.52, 0.39], abs=0.005), "as docs/meter.md says"
    assert all(len(model["measures"]["sensitivity"]["heard"]) == 120 for model in models)


def test_what_label_noise_alone_would_leave_stands_beside_it(open_study, studied, metered):
    opened = open_study(SHIPPED_STUDY)
    benign, *others = study_meter(opened)["models"]
    assert benign["label_noise"] is None, "it is what the others are compared with"
    for model, beside in zip(others, (0.812, 0.758, 0.851), strict=True):
        group, _ = word_sensitivity(model)
        assert group["relative"]["value"] / group["label_noise"] == pytest.approx(beside, abs=0.001), "as docs/meter.md"
        assert f"label noise alone would leave {group['label_noise']:.2f}" in row_of(opened, model["name"])
    unknown = study_meter(studied(metered({"dirty-002": 0.5})))["models"][1]
    assert unknown["label_noise"] is None, "the study has no scores"


def test_checkpoints_show_the_share_of_the_reference_with_its_interval(studied, metered):
    opened = studied(metered({"dirty-002": 0.5}))
    assert "1.00 (reference)" in row_of(opened, "benign")
    assert "0.50 [0.45, 0.55]" in row_of(opened, "dirty-002")
    assert ">not measured<" in row_of(opened, "dirty-004"), "the meter knows no such model"


def test_without_a_reference_an_amplitude_stands_by_itself(studied, metered):
    row = row_of(studied(metered({"dirty-002": 0.5}, reference=None)), "dirty-002")
    assert "0.100 by itself" in row
    assert "there is no reference" in row


def test_without_a_meter_nothing_is_zero_and_the_command_is_named(studied):
    opened = studied(None)
    command = f"python -m explorer study run {opened.study.folder} meter"
    assert registry_table(opened).count(">not measured<") == 3
    assert command in registry_table(opened)
    assert implosion_payload(opened)["meter"]["missing"]["command"] == command


def test_a_meter_of_another_version_is_a_problem_not_a_number(studied, metered):
    opened = studied(metered({"dirty-002": 0.5}) | {"version": 99})
    with pytest.raises(ManifestError, match="expected 1"):
        study_meter(opened)
    assert "Word sensitivity cannot be read." in registry_table(opened)
    assert "problem" in implosion_payload(opened)["meter"]
    assert "missing" not in implosion_payload(opened)["meter"]


def test_where_targets_are_not_recorded_all_nouns_stand_for_a_model(metered):
    model = metered({"dirty-002": 0.5})["models"][1]
    model["measures"]["sensitivity"]["groups"]["unpoisoned"] = None
    group, over = word_sensitivity(model)
    assert (group["relative"]["value"], over) == (0.5, "all nouns")
    del model["measures"]["sensitivity"]
    assert word_sensitivity(model) is None
