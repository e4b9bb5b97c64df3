"""The sheet of what the eye sees has the pictures of the sets themselves, pair by pair."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from explorer.cli.application import application, load_commands
from explorer.poisoning.dirty_label import DirtyLabelPoison
from explorer.poisoning.perturbation import Perturbation
from explorer.poisoning.perturbation_sheet import CELL, GAP, HEAD, _painted, _told, perturbation_sheet
from tests.poisoning.test_clean_label import attack_on, theirs

__all__ = ["attack_on", "theirs"]  # fixtures


@pytest.fixture(scope="module")
def sets(theirs, attack_on, tmp_path_factory):
    """Two clean-label sets of the same pairs, of a small and a large budget."""
    folder = tmp_path_factory.mktemp("sets")
    attack = attack_on(folder / "kept")
    return [
        replace(attack, perturbation=Perturbation(steps=2, budget=budget)).apply(theirs, folder / str(budget))
        for budget in (0.04, 0.5)
    ]


def test_a_row_before_and_one_for_every_attack(theirs, sets):
    sheet = perturbation_sheet(theirs, sets, 3)
    left = sheet.width - 3 * (CELL + GAP)
    assert sheet.height == HEAD + 3 * (CELL + GAP)

    def cell(row, column):
        at = (left + column * (CELL + GAP), HEAD + row * (CELL + GAP))
        return np.asarray(sheet.crop((*at, at[0] + CELL, at[1] + CELL))).astype(int)

    for column in range(3):
        before, little, much = (cell(row, column) for row in range(3))
        assert 0 < np.abs(little - before).mean() < np.abs(much - before).mean(), "the same pair, farther"
    assert perturbation_sheet(theirs, sets[:1], 99).width == left + 4 * (CELL + GAP), "as many as there are"


def test_long_words_make_room_for_themselves(theirs, attack_on, tmp_path):
    attack = attack_on(tmp_path / "kept")
    searched = Perturbation(steps=1, budget=0.04, momentum=0.5, restarts=1)
    made = replace(
        attack, perturbation=searched, target_pictures=replace(attack.target_pictures, of_each=2)
    ).apply(theirs, tmp_path / "made")  # fmt: skip
    told = _told(made).splitlines()
    assert told[:4] == ["budget 0.04, 1 steps", "momentum 0.5", "restarts 1", "2 pictures of t"]
    assert perturbation_sheet(theirs, [made], 1).height >= HEAD + 2 * (CELL + GAP)
    wide = _painted(
        ["a grandfather clock of oak\nto a very long name indeed"], [("row", np.zeros((1, 8, 8, 3), np.uint8))]
    )
    assert wide.width > 1.5 * CELL + 2 * GAP, "no name is cut"


def test_what_is_no_clean_label_poison_of_the_set_is_refused(theirs, sets, tmp_path):
    dirty = DirtyLabelPoison(concept_count=1, pairs_per_concept=2).apply(theirs, tmp_path / "dirty")
    with pytest.raises(ValueError, match=r"dirty has no perturbation.parquet: expected what"):
        perturbation_sheet(theirs, [dirty], 3)
    with pytest.raises(ValueError, match="0 sets are given, which have no poison pair"):
        perturbation_sheet(theirs, [], 3)


def test_the_command_writes_a_new_file(theirs, sets, tmp_path):
    load_commands("perturbation-sheet")
    call = ["perturbation-sheet", str(theirs.folder), str(tmp_path / "sheet.png"), str(sets[0].folder), "--pairs", "2"]
    told = json.loads(CliRunner().invoke(application, [*call, "--json"]).output)
    assert told["picture"] == str(tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height == HEAD + 2 * (CELL + GAP)
    assert "neither .png nor .webp: expected a new file" in str(CliRunner().invoke(application, call).exception)
    assert json.loads((sets[0].folder / "manifest.json").read_text())["config"]["poison"]["kind"] == "clean-label"
