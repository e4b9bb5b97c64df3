"""How soon each screen shows another study once it is chosen in the header, in headless chromium without a GPU."""

from __future__ import annotations

import os
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.benchmarks.graphs import ARGUMENTS, playwright_with, served
from explorer.benchmarks.startup import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

SCREENS = ("compare", "implosion", "graphs", "alignment", "defence", "checkpoints")
GOAL_SECONDS = 1.0
# Done is what nothing changes any more: the time of the last change before this many milliseconds without one.
CHOOSE = """() => new Promise((resolve) => {
  const chooser = document.getElementById('study-chooser');
  const began = performance.now();
  let last = began;
  const changes = new MutationObserver(() => { last = performance.now(); });
  changes.observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true });
  chooser.selectedIndex = 1 - chooser.selectedIndex;
  chooser.dispatchEvent(new Event('change'));
  const look = () => {
    const loading = [...document.querySelectorAll('[role=tabpanel] .loading')].some((element) => element.offsetParent);
    if (loading || performance.now() - last < 1500) return setTimeout(look, 50);
    changes.disconnect();
    return resolve((last - began) / 1000);
  };
  look();
})"""


def benchmark_switching(
    studies: Sequence[Path], chromium: Path, rounds: int, screens: Sequence[str] = SCREENS
) -> dict[str, Any]:
    """Seconds from the choice until the screen changes no more, to and fro between two studies.

    Returns:
        For each screen ``first``, of either study in a page that has not shown it yet, and ``median`` and ``most`` of
        the ``2 * rounds`` changes after that.

    Raises:
        ValueError: unless there are two studies, and chromium and playwright.
    """
    if len(studies) != 2:
        raise ValueError(f"{len(studies)} studies given: expected two")
    sync_playwright, seconds = playwright_with(chromium), {}
    with served(*studies) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(chromium), args=list(ARGUMENTS))
        load = os.getloadavg()[0]
        for screen in screens:
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.set_default_timeout(TIMEOUT_SECONDS * 1000)
            page.goto(f"{address}/?tab={screen}")
            page.locator("#study-chooser").wait_for()
            page.wait_for_timeout(3000)
            took = [page.evaluate(CHOOSE) for _ in range(2 + 2 * rounds)]
            seconds[screen] = {"first": took[:2], "median": statistics.median(took[2:]), "most": max(took[2:])}
            page.close()
        browser.close()
    return {"studies": [study.name for study in studies], "cores": os.cpu_count(), "load_before": load,
            "rounds": rounds, "goal": GOAL_SECONDS, "seconds": seconds}  # fmt: skip


def markdown(report: dict[str, Any]) -> str:
    """The figures as a table."""
    lines = [f"| seconds (goal {report['goal']:g}) | first | median | most |", "|---|---:|---:|---:|"]
    for screen, took in report["seconds"].items():
        first = ", ".join(f"{each:.2f}" for each in took["first"])
        lines.append(f"| {screen} | {first} | {took['median']:.2f} | {took['most']:.2f} |")
    return "\n".join(lines)
