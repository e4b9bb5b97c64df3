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


def chance(value):
    return "< .001" if value < 0.001 else shown(value, 3)


def row_of(entry, group):
    found, meter = entry["groups"][group], entry["meter"]
    change, per_unit, beside = found["change"], found["per_distance"], found["against_equally_far"]
    cells = (
        f"`{entry['name']}`", f"{100 * entry['parameters']:.1f} %", shown(entry["distance"], 1),
        shown(found["accuracy"]["value"], 2),
        f"{change['value']:+.2f} [{change['low']:+.2f}, {change['high']:+.2f}]",
        shown(per_unit and 100 * per_unit["value"], 2), chance(found["against_none"]["p"]),
        "–" if beside is None else chance(beside["p"]), shown(meter[group]["sensitivity"]["of_all"]["value"], 2),
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def late_row_of(entry, group):
    """Of the table with attention: shares of what the graft ``all`` has, with their intervals."""
    found, attention = entry["groups"][group], entry["attention"][group]
    change, beside = found["change"], found["against_equally_far"]
    late = (attention[name]["of_all"] for name in ("late_word_mass", "late_contiguity"))
    cells = (
        f"`{entry['name']}`", shown(found["accuracy"]["value"], 2),
        f"{change['value']:+.2f} [{change['low']:+.2f}, {change['high']:+.2f}]",
        "–" if beside is None else chance(beside["p"]),
        shown(entry["meter"][group]["sensitivity"]["of_all"]["value"], 2),
        *(f"{each['value']:.2f} [{each['low']:.2f}, {each['high']:.2f}]" for each in late),
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def report_of(name):
    return GRAFT_STUDY.checked(json.loads((MEASURED / f"{name}.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize(("name", "row"), [("both-ways", row_of), ("five-seeds", late_row_of)])
def test_the_table_is_what_was_measured(name, row):
    way = report_of(name)["directions"][0]
    for entry in way["operations"]:
        assert row(entry, way["group"]) in PAGE, row(entry, way["group"])


def test_the_concepts_are_those_listed():
    for path in MEASURED.glob("*.json"):
        listed = ConceptList.read(MEASURED / ("poisoned-concepts.csv" if "poisoned" in path.name else "concepts.csv"))
        assert [each["concept"] for each in report_of(path.stem)["concepts"]] == list(listed.names)


def two(value):
    return f"{value:.2f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.2f}"


def test_the_curves_are_what_was_measured():
    (way,) = GRAFT_STUDY.checked(json.loads((MEASURED / "curves" / "graft-study.json").read_text()))["directions"]
    found = {entry["name"]: entry["groups"][way["group"]] for entry in way["operations"]}
    rows = {"a quarter of cross-attention's way": "cross-attention-25", "half of it": "cross-attention-50",
            "three quarters": "cross-attention-75", "the whole": "cross-attention",
            "half of the transformer blocks' way": "transformer-blocks-50"}  # fmt: skip
    for words, name in rows.items():
        line = next(line for line in PAGE.splitlines() if line.startswith(f"| {words} |"))
        own, beside = found[name], found[f"all-as-far-as-{name}"]["change"]
        assert f"| {two(own['accuracy']['value'])} | +{two(own['change']['value'])} [" in line, line
        assert f"| +{two(beside['value'])} [" in line, line


def signed(value):
    return ("+" if value >= 0 else "-") + two(abs(value))


@pytest.mark.parametrize("run", [1, 2, 3])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_five_pictures_of_every_run_are_what_was_measured(direction, run):
    stored = json.loads((MEASURED / f"five-{direction}-run-{run}" / "graft-study.json").read_text())
    (way,) = GRAFT_STUDY.checked(stored)["directions"]
    found = {entry["name"]: entry["groups"][way["group"]] for entry in way["operations"]}
    cells = [
        f"{signed(change['value'])} [{two(change['low'])}, {two(change['high'])}]"
        for change in (found[name]["change"] for name in (
            "cross-attention", "all-as-far-as-cross-attention", "all-but-cross-attention", "cross-attention-random",
            "cross-attention-mirrored"))
    ]  # fmt: skip
    p = found["cross-attention"]["against_equally_far"]["p"]
    cells.insert(2, "< .001" if p < 0.001 else "1" if p == 1 else f"{p:.3f}"[1:])
    ends = [two(found[name]["accuracy"]["value"]) for name in ("none", "all")]
    assert f"| {' | '.join([str(run), ends[0], *cells, ends[1]])} |" in PAGE
    assert stored["request"]["seeds"] == 5


@pytest.mark.parametrize("run", [1, 2, 3])
def test_the_reverse_of_every_run_is_what_was_measured(run):
    stored = json.loads((MEASURED / f"reverse-run-{run}" / "graft-study.json").read_text())
    (way,) = GRAFT_STUDY.checked(stored)["directions"]
    found = {entry["name"]: entry for entry in way["operations"]}
    order = ("none", "cross-attention", "all-as-far-as-cross-attention", "all")
    accuracy = {name: two(found[name]["groups"][way["group"]]["accuracy"]["value"]) for name in order}
    heard = ", ".join(f"{found[name]['meter'][way['group']]['sensitivity']['mean']['value']:.3f}"[1:] for name in order)
    beside = found["cross-attention"]["groups"][way["group"]]["against_equally_far"]["p"]
    row = [str(run), *(accuracy[name] for name in order[:3]), f"{beside:.3f}"[1:], accuracy["all"], heard]
    assert f"| {' | '.join(row)} |" in PAGE
