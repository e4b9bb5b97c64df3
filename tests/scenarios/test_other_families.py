"""A sweep of a user's SD 2.x and SDXL, from pairs to Table 3: tiny random models of those shapes."""

import pytest
from typer.testing import CliRunner

from explorer.checkpoints.registry import scan_checkpoints
from explorer.cli.application import application, load_commands
from explorer.results.comparisons import compare_study
from explorer.results.measured import DIRTY_LABEL, Measured
from explorer.studies.study import Study
from tests.photographs import SMALL, photographs

FAMILIES = {"sd2": "v_prediction", "sdxl": "epsilon"}


@pytest.fixture
def bases(make_pipeline, make_xl_pipeline, tmp_path):
    sd2 = make_pipeline(use_linear_projection=True)
    sd2.scheduler.register_to_config(prediction_type="v_prediction")
    for name, pipeline in (("sd2", sd2), ("sdxl", make_xl_pipeline())):
        pipeline.save_pretrained(tmp_path / name)
    return tmp_path


@pytest.fixture
def studies(bases, open_clip_folder):
    """By family the study of its models, all made by one command."""
    photographs(bases / "pairs", count=48)
    (bases / "concepts.csv").write_text("concept,group\nshirt,pool\nturtle,pool\ndog,other\nhat,other\n")
    load_commands("scenario")
    call = [
        "scenario", "sweep", str(bases / "made"), "--base", str(bases / "sd2"), "--training", "sd21", "--other-base",
        str(bases / "sdxl"), "--other-training", "sdxl", "--set", str(bases / "pairs"), "--resolution", "64",
        "--concepts", "2", "--pairs-per-concept", "3", "--pictures", "1", "--drawing-steps", "2", "--accumulation", "1",
        "--concept-list", str(bases / "concepts.csv"), "--no-gradient-checkpointing", "--open-clip",
        f"local-dir:{open_clip_folder}", "--weights", str(open_clip_folder / "w.safetensors"), "--feature-range", "0",
        "1", "--step", "scores", "--step", "pictures", "--step", "evaluation", "--step", "meter", "--json",
    ]  # fmt: skip
    call += [part for name, value in SMALL.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    result = CliRunner().invoke(application, call)
    assert result.exit_code == 0, (result.exception, result.output)
    return {
        "sd2": Study.load(bases / "made" / "study"),
        "sdxl": Study.load(bases / "made" / "bases" / "sdxl" / "study"),
    }


@pytest.mark.slow
def test_table_3_of_a_users_sd2_and_sdxl(bases, studies):
    for family, study in studies.items():
        models = scan_checkpoints(study.folder.parent / "models")
        assert {model.family for model in models} == {family}
        assert [model.problem for model in models] == [None] * len(models)
        predicted = {model.config["prediction_type"] for model in models}
        assert predicted == {FAMILIES[family]}
        assert (study.folder / "results/meter/meter.json").is_file()
    assert not (bases / "made/bases/sdxl/sets").exists(), "of the sets there is one copy"
    assert [arm.pairs for arm in studies["sd2"].arms] == [arm.pairs for arm in studies["sdxl"].arms]
    assert studies["sd2"].beside == (studies["sdxl"].folder,)
    table = next(each for each in compare_study(studies["sd2"], Measured.of(studies["sd2"])) if each.name == "Table 3")
    assert [quantity.what.split(": ")[1] for quantity in table.quantities] == ["SD2.1", "SDXL"]
    for quantity, family in zip(table.quantities, FAMILIES, strict=True):
        measured = Measured.of(studies[family])
        control, *poisoned = measured.models(DIRTY_LABEL)
        assert {measured.family(model) for model in (control, *poisoned)} == {family}
        assert [model["poisoned_concept_count"] for model in poisoned] == [2], "one concept is Figure 2"
        # A share has a value only where the random control draws something that the judge knows.
        assert (quantity.here is None) == (control["utility"]["unpoisoned"]["mean"] == 0)
