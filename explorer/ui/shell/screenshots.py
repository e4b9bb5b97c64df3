"""A picture of each screen, as a visitor of a study sees it: for the documentation."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from PIL import Image

from explorer.benchmarks.graphs import ARGUMENTS, playwright_with, served
from explorer.benchmarks.startup import TIMEOUT_SECONDS
from explorer.core.provenance import replacing, write_manifest
from explorer.studies.study import Study

SCREENS = ("compare", "implosion", "graphs", "alignment", "defence", "checkpoints")
THEMES = ("light", "dark")
SURGERY = "compare-surgery"
MOVED = "cross-attention-keys-values:1,cross-attention-queries-output:1"
"""Parts of the control in the most poisoned model."""
FURTHER = {
    SURGERY: ("compare", "", (1280, 1000)),
    "compare-talk": ("compare", "&s.talk=1", (1280, 720)), "implosion-talk": ("implosion", "&s.talk=1", (1280, 720)),
    "compare-phone": ("compare", "", (390, 844)), "implosion-phone": ("implosion", "", (390, 844)),
}  # fmt: skip
"""With a graft as a column, in talk mode and as on a phone: by file the screen, what its address says beside it, and
the window."""
QUALITY = 70
"""Of WebP, 0 to 100."""
# Only the first window is taken; what lies below it is drawn once it is scrolled to.
DRAWN = """() => {
  const panel = [...document.querySelectorAll('[role=tabpanel]')].find((element) => element.offsetParent);
  if (!panel || document.querySelector('.loading')?.checkVisibility()) return false;
  // A comparison is fetched; where there is none, words stand in its place.
  if (panel.querySelector('.compare-grid')?.childElementCount === 0) return false;
  if (panel.querySelector('.graft-panel[open] figcaption')?.textContent.startsWith('Drawing')) return false;
  const frames = [...panel.querySelectorAll('.graph-frame')];
  return frames.every((frame) => frame.dataset.drawn) && panel.innerText.trim().length > 200;
}"""
SETTLING_MILLISECONDS = 800


@dataclass(frozen=True, kw_only=True)
class ScreenshotRequest:
    """How the pictures are taken.

    Raises:
        ValueError: naming the value and what was expected.
    """

    theme: str = "light"
    """Light or dark."""
    width: int = 1280
    """Of the window, in pixels."""
    height: int = 1000
    """Of the window, in pixels."""

    def __post_init__(self) -> None:
        if self.theme not in THEMES:
            raise ValueError(f"theme is {self.theme!r}: expected one of {', '.join(THEMES)}")


def take_screenshots(
    study: Path, output: Path, request: ScreenshotRequest, chromium: Path, *,
    screens: Sequence[str] = (*SCREENS, *FURTHER),
) -> dict[str, Any]:  # fmt: skip
    """Serve the study, open every screen in a headless browser and write ``SCREEN.webp`` with a manifest.

    Args:
        screens: of ``SCREENS``, in a window as asked for, and of :data:`FURTHER`.

    Returns:
        The manifest.

    Raises:
        ValueError: if there is no chromium or no playwright here.
    """
    sync_playwright = playwright_with(chromium)
    output.mkdir(parents=True, exist_ok=True)
    with served(study) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(chromium), args=list(ARGUMENTS))
        page = browser.new_page()
        page.set_default_timeout(TIMEOUT_SECONDS * 1000)
        for name in screens:
            screen, more, (width, height) = FURTHER.get(name, (name, "", (request.width, request.height)))
            page.set_viewport_size({"width": width, "height": height})
            more += _graft(study) if name == SURGERY else ""
            page.goto(f"{address}/?tab={screen}&__theme={request.theme}{more}")
            page.wait_for_function(DRAWN)
            page.wait_for_timeout(SETTLING_MILLISECONDS)
            _write_webp(output / f"{name}.webp", page.screenshot())
        browser.close()
    files = [f"{screen}.webp" for screen in screens]
    config = {"study": study.name, **asdict(request), "quality": QUALITY}
    return write_manifest(output, kind="screenshots", config=config, seed=None, files=files)


def _graft(study: Path) -> str:
    """What the address says of the graft; nothing where the study has no control, or no model beside it."""
    found = Study.load(study)
    models = [arm.name for arm in found.arms if arm.checkpoint is not None]
    if found.control is None or models[-1:] in ([], [found.control.name]):
        return ""
    return "&" + urlencode({"graft": f"{models[-1]}~{found.control.name}~{MOVED}"})


def _write_webp(path: Path, png: bytes) -> None:
    with Image.open(io.BytesIO(png)) as picture, replacing(path) as place:
        picture.convert("RGB").save(place, format="WEBP", quality=QUALITY, method=6)
