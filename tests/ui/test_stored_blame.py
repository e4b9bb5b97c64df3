"""Blame as the study has stored it, for the screen Implosion."""

import re

import numpy as np
import pandas as pd
import pytest

from explorer.core.provenance import ManifestError, write_json
from explorer.defence.payload_formats import BLAME, GRADED_BLAME
from explorer.pairs.pair_set import PairSet
from explorer.studies.blame import stored_concepts
from explorer.studies.blame_grading import PREDICTS, UNTRAINED
from explorer.studies.results import command_line
from explorer.studies.study import Arm
from explorer.ui.screens.implosion.stored_blame import stored_blame
from explorer.ui.shell.missing_steps import shown_folder

PAIR = {"row": 3, "uid": "u3", "caption": "a hat", "is_poison": None, "score": 0.5}


def blamed_for(concept):
    scores = [{"name": name, "words": "w", "measured": 4, "poison_auc": None, "pairs": [PAIR]}
              for name in ("neighbourhood", "gradient")]  # fmt: skip
    return BLAME.written(arm="dirty-002", concept=concept, prompt=f"a photo of a {concept}", mentioned_in=2,
                         models=["benign", "dirty-002"], data_hash="d", scores=scores)  # fmt: skip


@pytest.fixture
def opened(own_world, open_study):
    return open_study(own_world[1])


def place(opened, name):
    (folder := opened.study.folder / "blame" / "dirty-002" / name).parent.mkdir(parents=True, exist_ok=True)
    return folder


def test_what_is_not_stored_names_its_command(opened):
    told = stored_blame(opened, "dirty-002", "hat")
    assert told["missing"]["command"].endswith("view dirty-002 hat")
    for arm, concept, words in (("nobody", "hat", "nobody"), ("dirty-002", "../x", "concept is '../x'")):
        with pytest.raises(ValueError, match=words):
            stored_blame(opened, arm, concept)


def test_each_score_comes_with_what_it_is_proven_to_predict(opened):
    write_json(place(opened, "hat.json"), blamed_for("hat"))
    told = stored_blame(opened, "dirty-002", "hat")
    assert [each["proven"] for each in told["scores"]] == [UNTRAINED, UNTRAINED]
    assert (told["graded"], told["graphs"]) == (None, None)
    assert told["pictures_url"].endswith("/thumbnails/dirty-002")
    lists = [{"name": "gradient", "words": PREDICTS, "top1": None, "less_random": None}]
    graded = GRADED_BLAME.written(concepts=["hat"], candidates=4, left_out=2, lists=lists)
    write_json(place(opened, "lists/graded.json"), graded)
    assert stored_concepts(opened.study) == {"dirty-002": ["hat"]}, "lists of pairs are no concept's"
    told = stored_blame(opened, "dirty-002", "hat")
    assert [each["proven"] for each in told["scores"]] == [UNTRAINED, PREDICTS]
    assert told["graded"] == graded
    write_json(place(opened, "lists/graded.json"), {"version": 0})
    command = command_line("blame-graded", shown_folder(opened.study), "dirty-002")
    with pytest.raises(ManifestError, match=re.escape(f"Run `{command}`.")):
        stored_blame(opened, "dirty-002", "hat")


def test_a_file_of_another_format_is_refused(opened):
    write_json(place(opened, "hat.json"), {"version": 0})
    with pytest.raises(ManifestError, match="format version 0"):
        stored_blame(opened, "dirty-002", "hat")


def test_blame_of_another_model_says_so(opened):
    own = opened.check_weights(opened.checkpoint("dirty-002")).hash
    for weights, said in ((["start", own], ""), (["start", "0" * 64], "the model dirty-002"), (None, "")):
        write_json(place(opened, "hat.json"), blamed_for("hat") | ({} if weights is None else {"weights": weights}))
        told = stored_blame(opened, "dirty-002", "hat")["changed"]
        assert (said in told and told.endswith("view dirty-002 hat`.")) if said else told == ""


def test_blame_of_other_pairs_says_so(tmp_path, make_study, open_study):
    table = pd.DataFrame({"uid": ["a"], "caption": "a dog", "concepts": [["dog"]], "image_index": [0],
                          "is_poison": False, "poisoned_concept": "", "target_concept": "",
                          "split": "train"})  # fmt: skip
    pairs = PairSet.write(tmp_path / "pairs", table, np.zeros((1, 8, 8, 3), np.uint8), config={}, seed=0)
    arms = (Arm(name="dirty-002", pairs=pairs.folder),)
    opened = open_study(make_study(tmp_path / "mine", arms=arms, concepts=("hat", "dog")).folder)
    for data_hash, said in ((pairs.data_hash, ""), ("another", "Computed before its training pairs changed: run `")):
        write_json(place(opened, "hat.json"), blamed_for("hat") | {"data_hash": data_hash})
        told = stored_blame(opened, "dirty-002", "hat")["changed"]
        assert told.startswith(said) if said else told == ""
