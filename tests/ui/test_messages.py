import pytest

from explorer.checkpoints.registry import read_checkpoint
from explorer.core.progress import Progress
from explorer.ui.shell import messages


def test_text_is_escaped_and_errors_are_alerts():
    shown = messages.notice("<img src=x onerror=alert(1)>", kind="error", title="<b>")
    assert "<img" not in shown
    assert "&lt;img src=x onerror=alert(1)&gt;" in shown
    assert "&lt;b&gt;" in shown
    assert 'role="alert"' in shown


def test_commands_are_shown_as_code_and_stay_text():
    shown = messages.notice("Run `explorer <b>`, or don't.")
    assert "<span>Run <code>explorer &lt;b&gt;</code>, or don&#x27;t.</span>" in shown


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="kind is 'loud': expected info, working, done or error"):
        messages.notice("x", kind="loud")


def test_unknown_words_are_named():
    known = {"a", "photo", "of", "turtle"}
    messages.check_words("a photo of a turtle", known)
    messages.check_words("anything at all", None)
    with pytest.raises(ValueError, match=r"These models know no words “zebra”, “quagga”, but a closed list of 4 words"):
        messages.check_words("a zebra of quagga", known)


def test_a_base_is_named_on_the_page_and_not_by_a_command(make_unet, tmp_path):
    make_unet().save_pretrained(tmp_path / "theirs" / "unet")
    problem = read_checkpoint(tmp_path / "theirs").problem
    assert problem.endswith("names no base pipeline: name one with `explorer set-base`")
    assert messages.in_the_app(problem, "below").endswith("names no base pipeline: name one below")


def test_progress_counts_models_and_steps():
    shown = messages.progress(Progress(task="dirty<1>", done=5, total=10, part=1, parts=2))
    assert "dirty&lt;1&gt;: step 5 of 10 (model 2 of 2)" in shown
    assert 'value="0.750"' in shown
