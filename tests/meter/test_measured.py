"""What docs/meter.md says was measured is what meter.json holds."""

import json

from explorer.core.provenance import ROOT
from explorer.meter.payload_formats import METER
from explorer.pairs.concept_list import ConceptList

MEASURED = ROOT / "assets" / "experiments" / "meter"
GROUP = "unpoisoned"


def in_words(value):
    return "–" if value is None else f"{value['value']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"


def test_the_table_is_what_was_measured():
    report = METER.checked(json.loads((MEASURED / "meter.json").read_text(encoding="utf-8")))
    page = (ROOT / "docs" / "meter.md").read_text(encoding="utf-8")
    for model in report["models"][1:]:
        measures = model["measures"]
        noise = (model["label_noise"] or {"groups": {GROUP: {}}})["groups"][GROUP]
        cells = [measures[name]["groups"][GROUP]["relative"]
                 for name in ("sensitivity", "word_before", "guidance", "guidance_noun")]  # fmt: skip
        cells += [measures["guidance_cosine"]["groups"][GROUP]["mean"]]
        cells += [noise.get(name) for name in ("share", "sensitivity", "guidance")]
        row = f"| {' | '.join([model['name'], *map(in_words, cells)])} |"
        assert row in page, row


def test_the_concepts_are_those_listed():
    report = json.loads((MEASURED / "meter.json").read_text(encoding="utf-8"))
    listed = ConceptList.read(MEASURED / "concepts.csv")
    assert [each["concept"] for each in report["concepts"]] == list(listed.names)
