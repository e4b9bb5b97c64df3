"""What `explorer evaluate` measures on the micro world, beside what it measured before drawing and judging were parted.

Where a change of a figure is meant, ``GOLDEN=write`` measures again, as in tests/golden.
"""

import json
import os
from pathlib import Path

import pytest

GOLDEN = Path(__file__).with_name("micro_evaluation.json")


def figures(folder):
    """``evaluation.json`` without what names the weights and the code, by the path of each value."""
    report = json.loads((folder / "evaluation.json").read_text())
    assert report.pop("code_version")
    assert len(report["readers"]["extractor"].pop("identity")) == 64
    for model in report["models"]:
        assert len(model.pop("weights")) == 64
        model["alignment_difficulty"] = model["alignment_difficulty"]["ad"]
        assert model.pop("by_layer"), "of the same maps as the means below"
        assert model.pop("right_by_seed"), "of the same pictures as per_concept"
    return dict(leaves(report, ""))


def leaves(value, path):
    if not isinstance(value, dict | list):
        return [(path, value)]
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    return [leaf for name, entry in entries for leaf in leaves(entry, f"{path}/{name}")]


def test_the_figures_are_those_from_before(micro_evaluation):
    found = figures(micro_evaluation[0])
    if os.environ.get("GOLDEN") == "write":
        GOLDEN.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    known = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert found.keys() == known.keys()
    for path, expected in known.items():
        assert found[path] == (pytest.approx(expected, rel=5e-3, abs=1e-3) if isinstance(expected, float) else expected)
