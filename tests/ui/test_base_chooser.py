import json

import pytest

from explorer.ui.screens.checkpoints.base_chooser import (
    TITLE,
    base_choices,
    base_updates,
    checkpoint_choices,
    next_choice,
    set_base_notice,
)
from explorer.ui.screens.checkpoints.registry_table import registry_table
from explorer.ui.screens.checkpoints.screen import header_facts
from explorer.ui.shell.context import AppContext, AppSettings

MALICIOUS = "<img src=x onerror=alert(1)>"


@pytest.fixture
def opened(checkpoint_root, make_unet, open_checkpoints):
    """The registry of three, and two folders with nothing but a U-Net: one fits the base, one reads other texts."""
    make_unet(seed=9).save_pretrained(checkpoint_root / "theirs" / "unet")
    make_unet(cross_attention_dim=24).save_pretrained(checkpoint_root / MALICIOUS / "unet")
    return open_checkpoints(checkpoint_root)


def test_what_lacks_a_base_is_offered_first_and_its_only_base_is_chosen(opened):
    assert checkpoint_choices(opened.registry()) == [
        (f"{MALICIOUS} (SD 1.x, needs a base)", MALICIOUS),
        ("theirs (SD 1.x, needs a base)", "theirs"),
        ("dirty-002 (SD 1.x, on benign)", "dirty-002"),
        ("dirty-004 (SD 1.x, on benign)", "dirty-004"),
    ]
    assert base_choices(opened.registry()) == [("benign (SD 1.x)", "benign")]
    assert [update["value"] for update in base_updates(opened)] == [MALICIOUS, "benign"]


def test_the_table_points_at_the_chooser_of_this_screen(opened):
    table = registry_table(opened)
    assert table.count(f"name one below, under “{TITLE}”") == 2
    assert "explorer set-base" not in table
    with pytest.raises(ValueError, match="names no base pipeline: name one on the screen Checkpoints"):
        opened.checkpoint("theirs")


def test_setting_a_base_updates_registry_header_and_choosers(opened):
    assert "theirs" not in opened.checkpoint_names()
    assert header_facts(AppContext(settings=AppSettings()), opened)["checkpoints"] == "3 checkpoints, 2 broken"
    told, done = set_base_notice(opened, "theirs", "benign")
    assert done
    assert 'role="status"' in told
    assert "theirs stands on benign and can be chosen in Compare." in told
    opened.refresh_registry()
    assert "theirs" in opened.checkpoint_names()
    assert header_facts(AppContext(settings=AppSettings()), opened)["checkpoints"] == "4 checkpoints, 1 broken"
    assert registry_table(opened).count("U-Net on benign") == 3
    checkpoint, base = base_updates(opened, "theirs", "benign")
    assert (checkpoint["value"], base["value"]) == ("theirs", "benign")
    assert ("theirs (SD 1.x, on benign)", "theirs") in checkpoint["choices"]


def test_errors_are_words_and_escaped_and_nothing_is_written(opened, checkpoint_root):
    told, done = set_base_notice(opened, MALICIOUS, "benign")
    assert not done
    assert 'role="alert"' in told
    assert "cannot stand on benign: its U-Net reads text of width 24, that of its base benign 32." in told
    assert "<img" not in told + registry_table(opened)
    assert not (checkpoint_root / MALICIOUS / "manifest.json").exists()


@pytest.mark.parametrize(
    ("checkpoint", "base", "message"),
    [
        (None, "benign", "Choose a checkpoint and the pipeline it stands on."),
        ("theirs", None, "Choose a checkpoint and the pipeline it stands on."),
        ("theirs", "../elsewhere", "../elsewhere is no longer in"),
        ("gone", "benign", "gone is no longer in"),
        ("theirs", "dirty-004", "its base dirty-004 is no whole pipeline"),
        ("benign", "benign", "benign is a pipeline folder: expected a U-Net, a single file or a LoRA"),
    ],
)
def test_what_cannot_be_set_is_explained(opened, checkpoint, base, message):
    told, done = set_base_notice(opened, checkpoint, base)
    assert not done
    assert "No base was set." in told
    assert message in told


def test_what_is_gone_from_the_folder_leaves_the_choosers(opened, checkpoint_root):
    manifest = checkpoint_root / "dirty-002" / "manifest.json"
    manifest.write_text(json.dumps({"kind": "checkpoint", "config": {"base": "gone"}}))
    (checkpoint_root / MALICIOUS).rename(checkpoint_root / "renamed")
    opened.refresh_registry()
    checkpoint, base = base_updates(opened, MALICIOUS, "benign")
    assert checkpoint["value"] == "dirty-002", "the first that lacks a base"
    assert base["value"] == "benign"
    assert "dirty-002 (SD 1.x, needs a base)" in [label for label, _ in checkpoint["choices"]]


def test_an_incomplete_pipeline_is_offered_last(opened, checkpoint_root, make_pipeline):
    make_pipeline().save_pretrained(checkpoint_root / "a-lender")
    (checkpoint_root / "a-lender" / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    opened.refresh_registry()
    assert base_choices(opened.registry()) == [
        ("benign (SD 1.x)", "benign"),
        ("a-lender (SD 1.x, incomplete)", "a-lender"),
    ]


def test_after_one_base_the_next_checkpoint_without_one_is_offered(opened, checkpoint_root, make_unet):
    (checkpoint_root / MALICIOUS).rename(checkpoint_root.parent / "elsewhere")
    for name in ("first", "second"):
        make_unet(seed=9).save_pretrained(checkpoint_root / name / "unet")
    opened.refresh_registry()
    offered = [update["value"] for update in base_updates(opened)]
    set_one = []
    while offered[0] is not None:
        set_one.append(offered[0])
        told, done = set_base_notice(opened, *offered)
        assert done
        offered = [update["value"] for update in base_updates(opened, *next_choice(opened, offered[1]))]
        assert (f"The next that needs a base: {offered[0]}." in told) == (offered[0] is not None)
    assert set_one == ["first", "second", "theirs"]
    assert "No other needs a base." in told
    assert offered == [None, None], "nothing is left that a further click could set again"
