"""Changing studies in a real chromium, timed; half a minute for a command that seldom changes."""

import shutil
from pathlib import Path

import pytest

from explorer.benchmarks.switching import benchmark_switching, markdown
from explorer.core.provenance import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.slow]
CHROMIUM = Path("/usr/bin/chromium")


def test_a_change_of_studies_is_timed_until_the_screen_rests(tmp_path):
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.is_file():
        pytest.skip(f"{CHROMIUM} is not installed")
    shipped = ROOT / "assets" / "studies" / "iconworld"
    shutil.copytree(shipped, tmp_path / "other")
    report = benchmark_switching([shipped, tmp_path / "other"], CHROMIUM, 1, ("checkpoints",))
    (took,) = report["seconds"].values()
    assert len(took["first"]) == 2
    assert 0 < took["median"] <= took["most"] < 60
    assert "| checkpoints |" in markdown(report)
    with pytest.raises(ValueError, match="1 studies given: expected two"):
        benchmark_switching([shipped], CHROMIUM, 1)
