"""Which concepts a study's film strip and its first comparison show."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from explorer.core.poison_record import PoisonRecord
from explorer.core.provenance import ManifestError
from explorer.evaluation.config import EVALUATION_NAME
from explorer.evaluation.summary import known_benign
from explorer.pairs.concept_list import POOL, ConceptList
from explorer.studies.results import EVALUATION, result_file
from explorer.studies.study import Study


def strip_concepts(concepts: ConceptList, records: Collection[PoisonRecord], count: int) -> list[str]:
    """``count`` concepts that a record poisons, filled up from the pool, then as many outside of it that none poisons.

    Each in order of frequency: no choice by result. A list of one's own may have poisoned concepts outside of its pool.
    """
    named = {name for record in records for name in record.names}
    pool = concepts.of_group(POOL)
    poisoned = [name for name in concepts.names if name in named]
    filling = [name for name in pool if name not in named]
    others = [name for name in concepts.names if name not in named | set(pool)]
    return [*[*poisoned, *filling][:count], *others[:count]]


def evaluated(study: Study) -> dict[str, Any] | None:
    """The study's evaluation.json; None where it is not there or not as its manifest says."""
    try:
        return json.loads(result_file(study, EVALUATION, EVALUATION_NAME).read_text(encoding="utf-8"))
    except (ManifestError, json.JSONDecodeError):
        return None


def shown_concept(concepts: ConceptList, records: Collection[PoisonRecord], report: dict[str, Any] | None) -> str:
    """The concept of the first comparison.

    Of those outside the pool that no record poisons and that the control draws right most often, the one whose CLIP
    similarity falls most from the control to the most poisoned model. A choice made for showing, not for measuring: the
    figures are over all concepts. Without such an evaluation, the most frequent of them.
    """
    pool = set(concepts.of_group(POOL))
    poisoned = {name for record in records for name in record.names}
    clean = [name for name in concepts.names if name not in poisoned | pool] or list(concepts.names)
    ends = _ends(report, concepts)
    if ends is None:
        return clean[0]
    control, imploded = ends
    most = max(control["per_concept"][name] for name in clean)
    right = [name for name in clean if control["per_concept"][name] == most]
    before, after = control["similarity_per_concept"], imploded["similarity_per_concept"]
    return max(right, key=lambda name: (before[name] - after[name], name))


def _ends(report: dict[str, Any] | None, concepts: ConceptList) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The control and the most poisoned model of an evaluation of these concepts; None where it has not both."""
    if report is None or [each["concept"] for each in report.get("concepts", ())] != list(concepts.names):
        return None
    controls = [model for model in report["models"] if known_benign(model)]
    imploded = [model for model in report["models"] if model["poisoned_concept_count"]]
    if not controls or not imploded:
        return None
    return controls[0], max(imploded, key=lambda model: model["poisoned_concept_count"])
