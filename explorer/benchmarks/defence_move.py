"""How long the screen *Defence* takes for a move of its slider, until the browser has painted it.

In headless chromium without a GPU, on whatever else the machine does meanwhile. Pairs and scores are made up; what a
move costs does not depend on what they say.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from explorer.benchmarks.graphs import (
    ARGUMENTS,
    CLUSTERS,
    NAME,
    browser_seconds,
    made_up_pairs,
    playwright_with,
    served,
)
from explorer.benchmarks.startup import TIMEOUT_SECONDS
from explorer.defence.filter_files import Score, write_filters
from explorer.defence.recipe import HIGHEST
from explorer.defence.scores import FEATURE, ScoreDescription
from explorer.studies.results import FILTERS, writing_step
from explorer.studies.specs import ExtractorSpec
from explorer.studies.study import Arm, Study

GOALS = {"move_milliseconds": 50.0, "move_milliseconds_95": 50.0}
"""At most: the median, and what 95 % of the moves keep to."""
POISONED = 0.2
FIRST_SHOWN = """() => {
  const [there, shown] = ['defence-there', 'defence-shown'].map((name) => performance.getEntriesByName(name).at(-1));
  return there && shown ? (shown.startTime - there.startTime) / 1000 : null;
}"""
MOVES = """async (moves) => {
  const slider = document.querySelector('.defence-slider');
  const painted = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
  await painted();
  const times = [];
  for (let move = 0; move < moves; move += 1) {
    slider.value = Math.round((0.05 + (0.9 * move) / moves) * Number(slider.max));
    const began = performance.now();
    slider.dispatchEvent(new Event('input', { bubbles: true }));
    const worked = performance.now() - began;
    await painted();
    times.push([worked, performance.now() - began]);
  }
  return times;
}"""


def benchmark_moves(pairs: int, scores: int, moves: int, chromium: Path, *, seed: int = 0) -> dict[str, Any]:
    """Figures over ``moves`` moves along ``pairs`` made-up pairs with ``scores`` scores each.

    Raises:
        ValueError: if there is no chromium or no playwright here.
    """
    sync_playwright = playwright_with(chromium)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / NAME
        make_up_filters(folder, pairs, scores, seed)
        with served(folder) as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=str(chromium), args=list(ARGUMENTS))
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.set_default_timeout(TIMEOUT_SECONDS * 1000)
            page.goto(f"{address}/?tab=defence")
            page.wait_for_function(FIRST_SHOWN)
            load, first, busy = os.getloadavg()[0], page.evaluate(FIRST_SHOWN), browser_seconds()
            worked, painted = np.array(page.evaluate(MOVES, moves)).T
            computed = 1000 * (browser_seconds() - busy) / moves
            browser.close()
    figures = {
        "first_shown_seconds": first,
        "move_milliseconds": float(np.median(painted)),
        "move_milliseconds_95": float(np.percentile(painted, 95)),
        "script_milliseconds": float(np.median(worked)),
        "cpu_milliseconds_a_move": computed,
    }
    return {"pairs": pairs, "scores": scores, "moves": moves, "cores": os.cpu_count(), "load_before": load,
            "goals": GOALS, "figures": figures}  # fmt: skip


def make_up_filters(folder: Path, pairs: int, scores: int, seed: int = 0) -> None:
    """Make ``folder`` a study of one arm, whose ``pairs`` made-up pairs have ``scores`` scores."""
    random = np.random.default_rng(seed)
    poison, cluster = random.random(pairs) < POISONED, random.integers(0, CLUSTERS, pairs)
    table = made_up_pairs(cluster, poison)

    def score(name: str) -> Score:
        values = np.clip(random.normal(0.4 + 0.2 * poison, 0.1), 0, 1).astype(np.float32)
        described = ScoreDescription(title=name, words="A made-up score.", remove=HIGHEST)
        return Score(
            values=values, description=described, provenance="made up",
            kept_structure_ad=np.linspace(0.3, 0.1, pairs + 1),
        )  # fmt: skip

    names = [FEATURE, *(f"score {number}" for number in range(2, scores + 1))]
    study = Study(folder=folder, name=NAME, extractor=ExtractorSpec(), arms=(Arm(name=NAME),))
    study.write()
    alignment = {"alpha": 0.8, "convention": "authors", "feature_ad": 0.4, "structure_ad": 0.3, "ad": 0.38}
    with writing_step(study, FILTERS, settings={}, inputs={}, seed=seed) as step:
        write_filters(step / NAME, name=NAME, table=table, rows=np.arange(pairs),
                      scores={each: score(each) for each in names}, alignment=alignment, data_hash="-")  # fmt: skip


def markdown(report: dict[str, Any]) -> str:
    """The figures as a table."""
    lines = [f"| {report['pairs']:,} pairs, {report['scores']} scores | goal | measured |", "|---|---:|---:|"]
    for name, value in report["figures"].items():
        goal = f"{GOALS[name]:g}" if name in GOALS else "–"
        lines.append(f"| {name.replace('_', ' ')} | {goal} | {value:.3g} |")
    return "\n".join(lines)
