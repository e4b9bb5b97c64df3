import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

from explorer.checkpoints.registry import scan_checkpoints
from explorer.core.poison_record import PoisonRecord
from explorer.generation.columns import compare_checkpoints, write_comparison
from explorer.generation.generate import GenerationRequest
from explorer.pairs.concept_list import Concept, ConceptList
from explorer.studies.results import COMPARISON
from explorer.ui.screens.compare.first_settings import default_settings
from explorer.ui.screens.compare.payload import concepts_asked_for, first_shown, precomputed_comparison
from explorer.ui.screens.compare.screen import chooser_updates, read_link
from explorer.ui.shell.concepts import StudyConcepts
from explorer.ui.shell.permalink import NO_MODEL


@pytest.fixture
def study(checkpoint_root, open_checkpoints):
    return open_checkpoints(checkpoint_root)


def test_a_link_sets_the_choosers_to_models_found_since_the_app_started(study, checkpoint_root):
    (checkpoint_root / "dirty-002").rename(checkpoint_root / "later")
    study.refresh_registry()
    status, link, prompt, *_, first, second, third, fourth = read_link(study, "v=1&p=a+dog&m=benign&m=later")
    assert "Settings from the link. Press Generate to draw these pictures." in status
    assert prompt == "a dog"
    assert (link["state"], link["prompt"]) == ("undrawn", "a dog")
    assert link["models"] == [{"name": "benign", "missing": False}, {"name": "later", "missing": False}]
    assert [update["value"] for update in (first, second, third, fourth)] == ["benign", "later", NO_MODEL, NO_MODEL]
    assert first["choices"] == ["benign", "later", "dirty-004"]


def test_without_a_link_the_study_is_as_at_first(study):
    status, link, *values, first, second, third, fourth = read_link(study, "?__theme=dark")
    assert (status, link) == ("", None)
    defaults = default_settings(study)
    assert values == [defaults.prompt, defaults.seed, defaults.steps, defaults.guidance_scale, ""]
    assert [update["value"] for update in (first, second, third, fourth)] == [*defaults.models, NO_MODEL]
    assert [update["choices"] for update in (first, third)] == [
        update["choices"] for update in (chooser_updates(study)[0], chooser_updates(study)[2])
    ]


@pytest.mark.parametrize(("steps", "shown"), [(100, 100), (150, 100)])
def test_a_study_of_more_steps_than_are_drawn_here_says_so(
    checkpoint_root, tmp_path, make_study, open_study, steps, shown
):
    make_study(tmp_path / "mine", checkpoints=checkpoint_root, steps=steps)
    study = open_study(tmp_path / "mine")
    status, *_ = read_link(study, "")
    assert default_settings(study).steps == shown
    assert ("draws in 150 denoising steps. This screen draws in 100 at most" in status) == (steps > shown)
    assert read_link(study, "v=1&p=a+dog&n=20&m=benign&m=dirty-002")[0].count("150") == 0, "it asks for its own"


def test_a_link_names_every_model_that_is_not_here_and_none_takes_its_place(study):
    query = "v=1&p=a+dog&m=<b>gone&m=benign&m=lost&m=dirty-002"
    status, link, prompt, *_, first, second, third, fourth = read_link(study, query)
    assert "The link names &lt;b&gt;gone, lost: not found here, or broken (see Checkpoints)." in status
    assert prompt == "a dog"
    assert [model["missing"] for model in link["models"]] == [True, False, True, False]
    chosen = [update["value"] for update in (first, second, third, fourth)]
    assert chosen == [None, "benign", NO_MODEL, "dirty-002"]


def test_a_link_to_the_precomputed_comparison_is_known_however_its_numbers_are_written(
    checkpoint_root, tmp_path, make_study, open_study
):
    request = GenerationRequest(prompt="a dog", seed=7, steps=1, guidance_scale=2.0)
    columns = compare_checkpoints(scan_checkpoints(checkpoint_root)[:2], request, concepts=("dog",))
    results = {COMPARISON: lambda place: write_comparison(place, columns)}
    make_study(tmp_path / "mine", checkpoints=checkpoint_root, results=results)
    study = open_study(tmp_path / "mine")
    same = "v=1&p=a+dog&s=7&n=1&g=2.00&m=benign&m=dirty-002"
    assert read_link(study, same)[1]["state"] == "drawn"
    assert read_link(study, same)[0] == ""
    for other in (same.replace("s=7", "s=8"), same.replace("dog", "hat"), same.replace("dirty-002", "dirty-004")):
        assert read_link(study, other)[1]["state"] == "undrawn"


def test_of_more_models_than_there_are_columns_both_ends_are_shown_and_a_link_names_what_is(
    checkpoint_root, tmp_path, make_study, open_study
):
    request = GenerationRequest(prompt="a dog", seed=7, steps=1, guidance_scale=2.0)
    drawn = compare_checkpoints(scan_checkpoints(checkpoint_root)[:1], request, concepts=("dog",))[0]
    for name in ("other", "third", "fourth"):
        shutil.copytree(checkpoint_root / "dirty-004", checkpoint_root / name)
    names = sorted(path.name for path in checkpoint_root.iterdir())
    columns = [replace(drawn, model=name) for name in names]
    results = {COMPARISON: lambda place: write_comparison(place, columns)}
    make_study(tmp_path / "mine", checkpoints=checkpoint_root, results=results)
    study = open_study(tmp_path / "mine")
    payload, known = precomputed_comparison(study), study.checkpoint_names()
    shown = [column["model"] for column in payload["columns"]]
    assert shown == [known[0], known[2], known[3], known[-1]]
    assert payload["left_out"] == 2
    assert default_settings(study).models == tuple(shown)
    assert read_link(study, payload["query"])[1]["state"] == "drawn"


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        ([0, 2, 4, 6, 8], "0 1 3 4"),
        ([0, 2, 4, 6, 8, None, None], "0 1 3 4"),
        ([0, 2, 4, 6, 8, 9, 10], "0 2 4 6"),
        ([0, 2, 4, None, None], "0 1 2 3"),
        ([0, 2, None, None, None], "0 1 2 3"),
        ([0, None, None, None, None], "0 1 3 4"),
        ([None] * 3, "0 1 2"),
        ([], ""),
    ],
)
def test_the_most_poisoned_model_shown_at_first_is_one_whose_c_p_is_recorded(counts, shown):
    named = {str(place): count for place, count in enumerate(counts)}
    assert " ".join(first_shown(named)) == shown


def test_a_link_that_cannot_be_read_says_why(study):
    status, link, *_ = read_link(study, "v=9")
    assert "The link cannot be read." in status
    assert link == {"state": "unreadable"}


@pytest.mark.parametrize(
    ("prompt", "named", "poisoned"),
    [
        ("a bowl of Cherries", ["cherry"], [3]),
        ("a french horn left of a dog", ["French horn", "dog"], [1, 2]),
        ("a dog near a cherry", ["dog"], []),
        ("a green field", [], []),
    ],
)
def test_a_prompt_names_concepts_by_the_words_that_stand_for_them(prompt, named, poisoned):
    concepts = (Concept(name="dog"), Concept(name="cherry", phrase="cherries"), Concept(name="French horn"))
    known = StudyConcepts(listed=ConceptList(concepts=concepts), poisoned_from={}, words=None)
    poison = PoisonRecord(kind="dirty-label", concepts=("French horn", "cherry", "unlisted"))
    column = SimpleNamespace(words=(*prompt.split(), "[start]", "[end]"), poison=poison)
    assert concepts_asked_for(column, known) == {"named": named, "poisoned_words": poisoned}
