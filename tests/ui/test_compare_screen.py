import fastapi
import gradio as gr
import pytest

from explorer.ui.compare_screen import chooser_updates, default_settings, read_link
from explorer.ui.context import AppContext, AppSettings
from explorer.ui.permalink import NO_MODEL


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
    status, prompt, *_, first, second, third, fourth = opened(context, "v=1&p=a+dog&m=benign&m=later")
    assert "Settings from the link" in status
    assert prompt == "a dog"
    assert [update["value"] for update in (first, second, third, fourth)] == ["benign", "later", NO_MODEL, NO_MODEL]
    assert first["choices"] == ["benign", "later", "dirty-004"]


def test_without_a_link_only_the_choices_are_new(context):
    status, *values, first, second, third, fourth = opened(context, "__theme=dark")
    assert all("value" not in update for update in (status, *values, first, second, third, fourth))
    assert [update["choices"] for update in (first, third)] == [
        update["choices"] for update in (chooser_updates(context)[0], chooser_updates(context)[2])
    ]


def test_a_link_to_a_model_that_is_not_here_says_so_and_keeps_the_prompt(context):
    status, prompt, *_, first, second, third, fourth = opened(context, "v=1&p=a+dog&m=benign&m=<b>gone")
    assert "The link names &lt;b&gt;gone: not found here, or broken (see Checkpoints)." in status
    assert prompt == "a dog"
    chosen = [update["value"] for update in (first, second, third, fourth)]
    assert chosen == ["benign", "dirty-002", "dirty-004", NO_MODEL]


def test_a_link_that_cannot_be_read_says_why(context):
    status, *_ = opened(context, "v=9")
    assert "The link cannot be read." in status
