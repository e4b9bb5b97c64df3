"""The pictures of the screens that the documentation shows."""

import json
from pathlib import Path

import pytest
from PIL import Image

from explorer.core.provenance import hash_file
from explorer.ui.shell.screenshots import ScreenshotRequest, take_screenshots


def test_what_cannot_be_taken_is_said_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="theme is 'blue': expected one of light, dark"):
        ScreenshotRequest(theme="blue")
    with pytest.raises(ValueError, match=r"chromium is .*gone: expected an executable"):
        take_screenshots(tmp_path, tmp_path / "out", ScreenshotRequest(), tmp_path / "gone")
    assert not (tmp_path / "out").exists()


@pytest.mark.browser
@pytest.mark.slow
def test_a_screen_is_taken_in_the_size_asked_for_with_a_manifest(world, tmp_path):
    chromium = Path("/usr/bin/chromium")
    if not chromium.is_file():
        pytest.skip(f"{chromium} is not installed")
    request = ScreenshotRequest(theme="dark", width=640, height=480)
    take_screenshots(world[1], tmp_path, request, chromium, screens=("checkpoints",))
    with Image.open(tmp_path / "checkpoints.webp") as picture:
        assert (picture.format, picture.size) == ("WEBP", (640, 480))
        assert sum(picture.convert("L").resize((1, 1)).getdata()) < 100, "dark"
    manifest = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["kind"], manifest["config"]["theme"]) == ("screenshots", "dark")
    assert manifest["files"] == {"checkpoints.webp": hash_file(tmp_path / "checkpoints.webp")}
