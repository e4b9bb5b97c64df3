"""What docs/surgery.md says was measured is what the study's file holds."""

import json

import pytest

from explorer.core.provenance import ROOT
from explorer.pairs.concept_list import ConceptList
from explorer.surgery.payload_formats import GRAFT_STUDY

MEASURED = ROOT / "assets" / "experiments" / "surgery"
PAGE = (ROOT / "docs" / "surgery.md").read_text(encoding="utf-8")


def shown(value, digits):
    return "–" if value is None else f"{value:.{digits}f}"


def row_of(entry, group):
    found, meter = entry["groups"][group], entry["meter"]
    change, per_unit, beside = found["change"], found["per_distance"], found["against_equally_far"]
    cells = (
        f"`{entry['name']}`", f"{100 * entry['parameters']:.1f} %", shown(entry["distance"], 1),
        shown(found["accuracy"]["value"], 2),
        f"{change['value']:+.2f} [{change['low']:+.2f}, {change['high']:+.2f}]",
        shown(per_unit and 100 * per_unit["value"], 2), shown(found["against_none"]["p"], 3),
        shown(beside and beside["p"], 3), shown(meter[group]["sensitivity"]["of_all"]["value"], 2),
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


@pytest.mark.parametrize("name", sorted(path.stem for path in MEASURED.glob("*-from-*.json")))
def test_the_table_is_what_was_measured(name):
    report = GRAFT_STUDY.checked(json.loads((MEASURED / f"{name}.json").read_text(encoding="utf-8")))
    for way in report["directions"]:
        for entry in way["operations"]:
            assert row_of(entry, way["group"]) in PAGE, row_of(entry, way["group"])


def test_the_concepts_are_those_listed():
    listed = ConceptList.read(MEASURED / "concepts.csv")
    for path in MEASURED.glob("*-from-*.json"):
        drawn = json.loads(path.read_text(encoding="utf-8"))["concepts"]
        assert [each["concept"] for each in drawn] == list(listed.names)
