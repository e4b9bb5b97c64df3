"""The embedded world made on a GPU from start to end, in bf16 and once compiled, and drawn with there."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from explorer.checkpoints.pipelines import load_pipeline
from explorer.checkpoints.registry import scan_checkpoints, validate
from explorer.core.provenance import read_manifest
from explorer.embeddings.universal_extractor import UniversalExtractor
from explorer.generation.generate import GenerationRequest, generate
from explorer.iconworld.grammar import photo_of
from explorer.scenarios.build import WorldBuild


@pytest.fixture
def recipe(micro_recipe):
    """Two steps of everything in bf16; one poisoned model."""
    short = {"steps": 2, "precision": "bf16"}
    return replace(
        micro_recipe,
        autoencoder=replace(micro_recipe.autoencoder, **short),
        extractor=replace(micro_recipe.extractor, **short),
        base=tuple(replace(phase, **short) for phase in micro_recipe.base),
        fine_tuning=replace(micro_recipe.fine_tuning, **short),
        poisoned_concept_counts=(2,),
    )


@pytest.mark.cuda
def test_a_world_is_made_and_drawn(recipe, tmp_path):
    build = WorldBuild(recipe=recipe, run=tmp_path / "run", output=tmp_path / "models", device="cuda")
    build.everything()
    found = {checkpoint.name: validate(checkpoint, thorough=True) for checkpoint in scan_checkpoints(build.output)}
    assert {name: checkpoint.problem for name, checkpoint in found.items()} == dict.fromkeys(
        ("base", "benign", "dirty-002")
    )
    assert read_manifest(build.output / "dirty-002")["metrics"]["final_step"] == 2
    request = GenerationRequest(prompt=photo_of(recipe.world().concepts[0]), seed=1, steps=2)
    for precision in ("fp32", "bf16"):
        drawn = generate(load_pipeline(found["dirty-002"], "cuda", precision), request)
        assert drawn.images.shape == (1, 64, 64, 3)
        assert torch.isfinite(drawn.cube.maps()).all()
    extractor = UniversalExtractor.load(build.output / "extractor", "cuda")
    assert np.isfinite(extractor.encode_images(drawn.images).numpy()).all()
    check_compiled(recipe, build.output, tmp_path / "compiled", request)


def check_compiled(recipe, made, folder, request):
    """The control fine-tuned once more from the base that is there, its U-Net compiled, and drawn with."""
    compiled = replace(recipe, fine_tuning=replace(recipe.fine_tuning, fused=True))
    build = WorldBuild(recipe=compiled, run=folder / "run", output=folder / "models", device="cuda")
    build.adopt(made)
    drawn = generate(load_pipeline(build.fine_tuned(0), "cuda", "bf16"), request)
    eager = generate(load_pipeline(made / "benign", "cuda", "bf16"), request)
    # Two steps of the same kind from the same weights: rounding alone lies between them.
    assert np.abs(drawn.images.astype(int) - eager.images.astype(int)).mean() <= 6
