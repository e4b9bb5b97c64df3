"""Tiny pipelines of every family whose attention can be recorded and edited."""

import pytest


@pytest.fixture(scope="module")
def pipelines(make_pipeline, make_xl_pipeline, make_sd3_pipeline, make_flux_pipeline):
    """By family."""
    makers = (make_pipeline, make_xl_pipeline, make_sd3_pipeline, make_flux_pipeline)
    made = {family: make() for family, make in zip(("sd", "sdxl", "sd3", "flux"), makers, strict=True)}
    for pipeline in made.values():
        pipeline.set_progress_bar_config(disable=True)
    return made
