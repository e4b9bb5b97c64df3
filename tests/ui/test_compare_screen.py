import fastapi
import gradio as gr
import pytest

from explorer.checkpoints.registry import scan_checkpoints
from explorer.core.provenance import write_manifest
from explorer.generation.columns import compare_checkpoints, write_comparison
from explorer.generation.generate import GenerationRequest
from explorer.ui.screens.compare.screen import chooser_updates, default_settings, read_link
from explorer.ui.shell.context import AppContext, AppSettings
from explorer.ui.shell.permalink import NO_MODEL


@pytest.fixture
def context(checkpoint_root, tmp_path):
    return AppContext(settings=AppSettings(checkpoints=checkpoint_root, precomputed=tmp_path / "none"))


def opened(context, query):
    """Status and values of a page opened with ``query``."""
    request = fastapi.Request({"type": "http", "query_string": query.encode(), "headers": []})
    return read_link(context, gr.Request(request=request), default_settings(context))


def test_a_link_sets_the_choosers_to_models_found_since_the_app_started(context, checkpoint_root):
    (checkpoint_root / "dirty-002").rename(checkpoint_root / "later")
    context.refresh_registry()
    status, link, prompt, *_, first, second, third, fourth = opened(context, "v=1&p=a+dog&m=benign&m=later")
    assert "Settings from the link. Press Generate to draw these pictures." in status
    assert prompt == "a dog"
    assert (link["state"], link["prompt"]) == ("undrawn", "a dog")
    assert link["models"] == [{"name": "benign", "missing": False}, {"name": "later", "missing": False}]
    assert [update["value"] for update in (first, second, third, fourth)] == ["benign", "later", NO_MODEL, NO_MODEL]
    assert first["choices"] == ["benign", "later", "dirty-004"]


def test_without_a_link_only_the_choices_are_new(context):
    status, link, *values, first, second, third, fourth = opened(context, "__theme=dark")
    assert link is None
    assert all("value" not in update for update in (status, *values, first, second, third, fourth))
    assert [update["choices"] for update in (first, third)] == [
        update["choices"] for update in (chooser_updates(context)[0], chooser_updates(context)[2])
    ]


def test_a_link_names_every_model_that_is_not_here_and_none_takes_its_place(context):
    query = "v=1&p=a+dog&m=<b>gone&m=benign&m=lost&m=dirty-002"
    status, link, prompt, *_, first, second, third, fourth = opened(context, query)
    assert "The link names &lt;b&gt;gone, lost: not found here, or broken (see Checkpoints)." in status
    assert prompt == "a dog"
    assert [model["missing"] for model in link["models"]] == [True, False, True, False]
    chosen = [update["value"] for update in (first, second, third, fourth)]
    assert chosen == [None, "benign", NO_MODEL, "dirty-002"]


def test_a_link_to_the_precomputed_comparison_is_known_however_its_numbers_are_written(checkpoint_root, tmp_path):
    folder = tmp_path / "precomputed"
    request = GenerationRequest(prompt="a dog", seed=7, steps=1, guidance_scale=2.0)
    columns = compare_checkpoints(scan_checkpoints(checkpoint_root)[:2], request, concepts=("dog",))
    names = write_comparison(folder / "compare", columns)
    write_manifest(folder, kind="precomputed", config={}, seed=7, files=[f"compare/{name}" for name in names])
    context = AppContext(settings=AppSettings(checkpoints=checkpoint_root, precomputed=folder))
    same = "v=1&p=a+dog&s=7&n=1&g=2.00&m=benign&m=dirty-002"
    assert opened(context, same)[1]["state"] == "drawn"
    assert opened(context, same)[0] == ""
    for other in (same.replace("s=7", "s=8"), same.replace("dog", "hat"), same.replace("dirty-002", "dirty-004")):
        assert opened(context, other)[1]["state"] == "undrawn"


def test_a_link_that_cannot_be_read_says_why(context):
    status, link, *_ = opened(context, "v=9")
    assert "The link cannot be read." in status
    assert link == {"state": "unreadable"}
