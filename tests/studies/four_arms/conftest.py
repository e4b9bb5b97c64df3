"""A finished study of four arms, and a copy of it for each test."""

import shutil
from dataclasses import replace

import pytest
from PIL import Image

from explorer.pairs.pair_set import PairSet
from explorer.studies.discovery import StudyRequest, new_study
from explorer.studies.running import RunRequest, run_study
from explorer.studies.specs import ExtractorSpec
from explorer.studies.study import Study


def write_pictures(pair_set, folder):
    """Pictures and captions in files, of which nobody says which are poison."""
    folder.mkdir()
    for uid, caption, pixels in zip(
        pair_set.table["uid"], pair_set.table["caption"], pair_set.read_images(), strict=True
    ):
        Image.fromarray(pixels).save(folder / f"{uid}.png")
        (folder / f"{uid}.txt").write_text(caption)


@pytest.fixture(scope="session")
def made(micro_world, tmp_path_factory):
    """A finished study of four arms: the control and one more are whole, one has no pairs, one no checkpoint.

    The pairs of the last are files, which nobody brought together in a pair set.
    """
    home = tmp_path_factory.mktemp("home")
    for name in ("base", "benign", "dirty-002", "dirty-004", "extractor"):
        shutil.copytree(micro_world.output / name, home / "models" / name)
    for name in ("benign", "dirty-002"):
        shutil.copytree(micro_world.run / "sets" / name, home / "sets" / name)
    shutil.move(home / "models" / "dirty-004", home / "models" / "no-pairs")
    write_pictures(PairSet.load(micro_world.run / "sets" / "dirty-004"), home / "photographs")
    request = StudyRequest(
        folder=home / "study", checkpoints=(str(home / "models" / "*"),),
        pairs=(str(home / "sets"), str(home / "photographs")),
        extractor=ExtractorSpec(folder=home / "models" / "extractor"), name="four arms",
    )  # fmt: skip
    study = new_study(request).study
    study = replace(study, seeds=(0, 1), steps=2, guidance_scale=4.0, loss_pairs=6)
    study.write()
    report = run_study(study, RunRequest())
    return home, report


@pytest.fixture
def study(made, tmp_path):
    """A copy of all of it that a test may change."""
    return Study.load(shutil.copytree(made[0], tmp_path / "home", symlinks=True) / "study")
