"""A study of two arms, one of them poisoned, and a recipe of few steps."""

from dataclasses import replace

import pytest

from explorer.studies.discovery import StudyRequest, new_study
from explorer.studies.results import FILTERS, SCORES
from explorer.studies.running import RunRequest, run_study
from explorer.studies.specs import ExtractorSpec

ARM = "dirty-004"


@pytest.fixture(scope="module")
def recipe(micro_recipe):
    return micro_recipe.as_fine_tuning()


@pytest.fixture(scope="module")
def study(micro_world, tmp_path_factory):
    """Two arms, scored; the pictures of one are drawn already."""
    request = StudyRequest(
        folder=tmp_path_factory.mktemp("home") / "study",
        checkpoints=tuple(str(micro_world.output / name) for name in ("benign", ARM)),
        pairs=tuple(str(micro_world.run / "sets" / name) for name in ("benign", ARM)),
        extractor=ExtractorSpec(folder=micro_world.output / "extractor"),
    )
    made = replace(new_study(request).study, seeds=(0, 1), steps=2, guidance_scale=4.0)
    made.write()
    assert run_study(made, RunRequest(steps=(SCORES, FILTERS))).failed == {}
    return made
