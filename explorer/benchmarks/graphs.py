"""How fluently a browser draws the screen *Graphs*, beside a scatter plot of Plotly with as many points.

In headless chromium without a GPU, on whatever else the machine does meanwhile. Pairs, layouts and neighbours are made
up: what is measured is drawing.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas

import json

import psutil

from explorer.alignment.graph_files import write_built_graphs
from explorer.alignment.graphs import FeatureGraph, PairGraphs
from explorer.alignment.layouts import LayoutQuality, scaled_layout
from explorer.alignment.payload_formats import COLUMNS_NAME
from explorer.benchmarks.startup import TIMEOUT_SECONDS, free_port, wait_for
from explorer.core.provenance import ROOT
from explorer.studies.results import GRAPHS, step_folder, writing_step
from explorer.studies.specs import ExtractorSpec
from explorer.studies.study import Arm, Study

GOALS = {"first_paint_seconds": 2.0, "pan_frames_per_second": 30.0, "zoom_frames_per_second": 30.0,
         "lasso_milliseconds": 200.0}  # fmt: skip
"""At most, but for frames per second, which are at least."""
NAME = "made-up"
CLUSTERS = 120
NEIGHBOURS = 8
CORNERS = 60
MOVING_SECONDS = 3.0
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-unsafe-swiftshader")

DRAWN = "() => [...document.querySelectorAll('.graph-frame')].map((frame) => Number(frame.dataset.drawn ?? 0))"
FIRST_PAINT = """() => {
  const there = performance.getEntriesByName('graphs-there').at(-1);
  const painted = performance.getEntriesByName('graphs-painted').at(-1);
  return there && painted ? (painted.startTime - there.startTime) / 1000 : null;
}"""
LASSO_TIMER = """() => {
  window.lassoTook = null;
  window.addEventListener('pointerup', () => {
    const began = performance.now();
    const frames = [...document.querySelectorAll('.graph-frame')];
    const before = frames.map((frame) => frame.dataset.drawn);
    const look = () => {
      const done = frames.every((frame, at) => frame.dataset.drawn !== before[at]);
      if (done) requestAnimationFrame(() => { window.lassoTook = performance.now() - began; });
      else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
  }, { capture: true, once: true });
}"""
# An event with every frame that the browser offers. Events sent from outside come too late for every second one: the
# browser answers each with a frame only, and its answer has to travel.
MOVE = """([x, y, kind, milliseconds]) => new Promise((resolve) => {
  const began = performance.now();
  let step = 0;
  const tick = () => {
    const there = kind === 'pan' ? [x + 120 * Math.sin(step / 20), y + 80 * Math.cos(step / 20)] : [x, y];
    const common = { bubbles: true, cancelable: true, clientX: there[0], clientY: there[1] };
    const target = document.elementFromPoint(...there);
    if (kind === 'pan') {
      target.dispatchEvent(new PointerEvent('pointermove', { ...common, buttons: 1 }));
      target.dispatchEvent(new MouseEvent('mousemove', { ...common, buttons: 1 }));
    } else target.dispatchEvent(new WheelEvent('wheel', { ...common, deltaY: step % 80 < 40 ? -12 : 12 }));
    step += 1;
    if (performance.now() - began < milliseconds) requestAnimationFrame(tick);
    else resolve();
  };
  tick();
})"""
PLOTLY = """async ([columns, offsets, count]) => {
  document.body.innerHTML = '<div style="display:flex"><div id="text"></div><div id="image"></div></div>';
  const bytes = await (await fetch(columns)).arrayBuffer();
  const began = performance.now();
  const plots = [];
  for (const [at, side] of ['text', 'image'].entries()) {
    const layout = new Float32Array(bytes, offsets[at], 2 * count);
    const x = layout.filter((_, place) => place % 2 === 0);
    const y = layout.filter((_, place) => place % 2 === 1);
    const plot = document.getElementById(side);
    await Plotly.newPlot(plot, [{ type: 'scattergl', mode: 'markers', x, y, marker: { size: 3, opacity: 0.5 } }],
      { width: 480, height: 520, dragmode: 'pan', margin: { l: 4, r: 4, t: 4, b: 4 } }, { scrollZoom: true });
    plots.push(plot);
  }
  await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
  const took = (performance.now() - began) / 1000;
  plots[0].on('plotly_relayouting', () => {
    const { xaxis, yaxis } = plots[0]._fullLayout;
    Plotly.relayout(plots[1], { 'xaxis.range': [...xaxis.range], 'yaxis.range': [...yaxis.range] });
  });
  window.lassoTook = null;
  const shown = () => { window.lassoTook = performance.now() - window.released; };
  plots[0].on('plotly_selected', () => requestAnimationFrame(() => requestAnimationFrame(shown)));
  window.addEventListener('pointerup', () => { window.released = performance.now(); }, { capture: true });
  window.addEventListener('mouseup', () => { window.released = performance.now(); }, { capture: true });
  window.frames_ = 0;
  const tick = () => { window.frames_ += 1; requestAnimationFrame(tick); };
  requestAnimationFrame(tick);
  return took;
}"""


def benchmark_graphs(pairs: int, chromium: Path, *, peer: bool = True, seed: int = 0) -> dict[str, Any]:
    """Figures of our screen and, with ``peer``, of two linked scatter plots of Plotly's.

    Raises:
        ValueError: if there is no chromium or no playwright here.
    """
    sync_playwright = playwright_with(chromium)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / NAME
        header = make_up_graphs(folder, pairs, seed)
        with served(folder) as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=str(chromium), args=list(ARGUMENTS))
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.set_default_timeout(TIMEOUT_SECONDS * 1000)
            load = os.getloadavg()[0]
            ours = _measure_ours(page, address)
            theirs = _measure_plotly(page, address, header, pairs) if peer else None
            browser.close()
    return {"pairs": pairs, "cores": os.cpu_count(), "load_before": load, "goals": GOALS, "ours": ours,
            "plotly_scattergl": theirs}  # fmt: skip


def playwright_with(chromium: Path) -> Any:
    """Playwright's entry, once there is something to drive.

    Raises:
        ValueError: if there is no chromium or no playwright here.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise ValueError("playwright is not installed: expected it (pip install -r requirements-dev.txt)") from error
    if not chromium.is_file():
        raise ValueError(f"chromium is {chromium}: expected an executable (apt-get install chromium)")
    return sync_playwright


def make_up_graphs(folder: Path, pairs: int, seed: int = 0) -> dict[str, Any]:
    """Make ``folder`` a study whose graphs are of ``pairs`` made-up pairs; return their header."""
    random = np.random.default_rng(seed)
    cluster = random.integers(0, CLUSTERS, pairs)
    poison = random.random(pairs) < 0.2

    def side() -> FeatureGraph:
        centres = random.normal(size=(CLUSTERS, 2))
        layout = scaled_layout(centres[cluster] + random.normal(0, 0.12, (pairs, 2)))
        # Neighbours in a list that is sorted by cluster are mostly near on the layout, as real ones are.
        order = np.argsort(cluster, kind="stable")
        near = order[(np.argsort(order)[:, None] + np.arange(1, NEIGHBOURS + 1)) % pairs]
        quality = LayoutQuality(trustworthiness=0.0, preservation=0.0, neighbours=0, anchors=0)
        similarities = np.sort(random.random((pairs, NEIGHBOURS)).astype(np.float32))[:, ::-1]
        return FeatureGraph(neighbours=near, similarities=similarities, layout=layout, quality=quality)

    graphs = PairGraphs(image=side(), text=side(), rows=np.arange(pairs), seed=seed)
    table = made_up_pairs(cluster, poison)
    scores = {name: random.random(pairs) for name in ("sample_ad", "structure_distance", "feature_distance")}
    study = Study(folder=folder, name=NAME, extractor=ExtractorSpec(), arms=(Arm(name=NAME),))
    study.write()
    with writing_step(study, GRAPHS, settings={}, inputs={}, seed=seed) as step:
        names = write_built_graphs(step / NAME, graphs, name=NAME, table=table, scores=scores)
    return json.loads((step_folder(study, GRAPHS) / NAME / names[0]).read_text(encoding="utf-8"))


def made_up_pairs(cluster: np.ndarray, poison: np.ndarray) -> pandas.DataFrame:
    """A set's table of pairs that nobody took.

    Args:
        cluster: int ``[pairs]``: the number of each pair's concept.
        poison: bool ``[pairs]``.
    """
    import pandas

    return pandas.DataFrame(
        {
            "uid": [f"{row:032x}" for row in range(len(cluster))],
            "caption": [f"a made-up caption of concept {number}, pair {row}" for row, number in enumerate(cluster)],
            "concepts": [[f"concept {number}"] for number in cluster],
            "is_poison": poison,
            "poisoned_concept": np.where(poison, np.char.add("concept ", cluster.astype(str)), ""),
            "target_concept": np.where(poison, "concept 0", ""),
        }
    )


@contextmanager
def served(*folders: Path) -> Iterator[str]:
    """The address of the app, which shows the studies in ``folders``."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "explorer", "app", "--port", str(port), "--no-warm-up",
               *(word for folder in folders for word in ("--study", str(folder)))]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        wait_for(f"{address}/readyz", process, time.perf_counter() + TIMEOUT_SECONDS)
        yield address
    finally:
        process.terminate()
        process.communicate(timeout=30)


def _measure_ours(page: Any, address: str) -> dict[str, float]:
    page.goto(f"{address}/?tab=graphs")
    page.wait_for_function(FIRST_PAINT)
    first = page.evaluate(FIRST_PAINT)
    page.locator(".graph-frame").first.scroll_into_view_if_needed()
    box = page.locator(".graph-frame").first.bounding_box()
    page.wait_for_timeout(500)
    frames = lambda: min(page.evaluate(DRAWN))  # noqa: E731
    figures = {"first_paint_seconds": first, **_movement(page, box, frames)}
    page.get_by_role("button", name="Lasso").click()
    page.evaluate(LASSO_TIMER)
    figures["lasso_milliseconds"] = _lasso(page, box)
    return figures


def _measure_plotly(page: Any, address: str, header: dict[str, Any], pairs: int) -> dict[str, float]:
    page.goto(f"{address}/livez")
    page.add_script_tag(url=f"{address}/explorer-static/plotly.min.js")
    columns = f"{address}/study/{NAME}/{GRAPHS}/{NAME}/{COLUMNS_NAME}"
    offsets = [header["columns"][f"{side}_layout"]["offset"] for side in ("text", "image")]
    first = page.evaluate(PLOTLY, [columns, offsets, pairs])
    box = page.locator("#text").bounding_box()
    figures = {"first_paint_seconds": first, **_movement(page, box, lambda: page.evaluate("() => window.frames_"))}
    page.evaluate("() => Plotly.relayout('text', { dragmode: 'lasso' })")
    figures["lasso_milliseconds"] = _lasso(page, box)
    return figures


def _movement(page: Any, box: dict[str, float], frames: Any) -> dict[str, float]:
    """Frames per second while the mouse drags a map about, and while its wheel turns; the other map follows."""
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 5, y + 5)
    figures = _rate("pan", frames, lambda: page.evaluate(MOVE, [x, y, "pan", 1000 * MOVING_SECONDS]))
    page.mouse.up()
    return figures | _rate("zoom", frames, lambda: page.evaluate(MOVE, [x, y, "zoom", 1000 * MOVING_SECONDS]))


def _rate(name: str, frames: Any, move: Any) -> dict[str, float]:
    """Frames per second, and how long all of the browser's processes computed for one."""
    before, began, busy = frames(), time.perf_counter(), browser_seconds()
    move()
    drawn = frames() - before
    computed = 1000 * (browser_seconds() - busy) / max(drawn, 1)
    rate = drawn / (time.perf_counter() - began)
    return {f"{name}_frames_per_second": rate, f"{name}_cpu_milliseconds_a_frame": computed}


def browser_seconds() -> float:
    """CPU seconds that our chromium has taken so far; unlike frames per second, other work on the machine does not
    change them much."""
    own = psutil.Process().children(recursive=True)
    times = [process.cpu_times() for process in own if process.name().startswith("chrom")]
    return sum(spent.user + spent.system for spent in times)


def _lasso(page: Any, box: dict[str, float]) -> float:
    """Milliseconds from letting the mouse go, after a circle over half of the map, until the selection is shown."""
    x, y, radius = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, box["width"] / 4
    for corner in range(CORNERS + 1):
        angle = 2 * math.pi * corner / CORNERS
        page.mouse.move(x + radius * math.cos(angle), y + radius * math.sin(angle))
        if corner == 0:
            page.mouse.down()
    page.mouse.up()
    page.wait_for_function("() => window.lassoTook !== null")
    return page.evaluate("() => window.lassoTook")


def markdown(report: dict[str, Any]) -> str:
    """The figures as a table."""
    kinds = {"ours": "ours", "plotly_scattergl": "Plotly scattergl"}
    lines = [f"| {report['pairs']:,} pairs | goal | {' | '.join(kinds.values())} |", "|---|---:|---:|---:|"]
    for name in report["ours"]:
        figures = [f"{report[kind][name]:.3g}" if report[kind] else "not measured" for kind in kinds]
        goal = f"{GOALS[name]:g}" if name in GOALS else "–"
        lines.append(f"| {name.replace('_', ' ')} | {goal} | {' | '.join(figures)} |")
    return "\n".join(lines)
