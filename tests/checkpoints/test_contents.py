"""Folders that the person who runs the registry may not read."""

import os
from contextlib import contextmanager
from pathlib import Path

import pytest

from explorer.checkpoints.registry import scan_checkpoints, validate

NOBODY = 65534


@contextmanager
def closed(folder, mode):
    """Take rights off a folder, and root's own, who may read everything, from this process.

    The working folder must be the one around: those further up need not be open to others.
    """
    for path in Path().rglob("*.safetensors"):
        path.chmod(0o644)
    folder.chmod(mode)
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if was_root:
            os.seteuid(0)
        folder.chmod(0o755)


@pytest.mark.parametrize("mode", [0o000, 0o111, 0o444])
def test_a_folder_that_cannot_be_read_is_listed_with_the_reason(checkpoint_root, monkeypatch, mode):
    monkeypatch.chdir(checkpoint_root)
    folder = checkpoint_root / "lost+found"
    (folder / "inside").mkdir(parents=True)
    (checkpoint_root / "link").symlink_to("lost+found/inside")
    with closed(folder, mode):
        found = {checkpoint.name: checkpoint for checkpoint in scan_checkpoints(".")}
    refused = found["lost+found"]
    assert (refused.kind, refused.problem) == ("unreadable", "lost+found cannot be read: Permission denied")
    assert validate(refused, thorough=True) == refused
    assert [found[name].problem for name in ("benign", "dirty-002", "dirty-004")] == [None] * 3
    assert ("link" in found) is (mode != 0o111)
    assert "link" not in found or found["link"].problem == "link cannot be read: Permission denied"


@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_a_base_that_cannot_be_read_breaks_what_stands_on_it(checkpoint_root, monkeypatch, mode):
    monkeypatch.chdir(checkpoint_root)
    with closed(checkpoint_root / "benign", mode):
        found = {checkpoint.name: checkpoint.problem for checkpoint in scan_checkpoints(".")}
    assert found["benign"] == "benign cannot be read: Permission denied"
    assert found["dirty-002"] == "its base pipeline benign cannot be read: Permission denied"


def test_links_that_lead_nowhere_are_no_checkpoints(checkpoint_root):
    (checkpoint_root / "loop").symlink_to("loop")
    (checkpoint_root / "gone").symlink_to("nowhere")
    (checkpoint_root / "through").symlink_to("benign/model_index.json/inside")
    assert [checkpoint.name for checkpoint in scan_checkpoints(checkpoint_root)] == ["benign", "dirty-002", "dirty-004"]
