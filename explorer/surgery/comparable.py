"""Whether graft studies can be taken together, each for a training run: measured alike, of models of their own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from explorer.core.provenance import ManifestError, hash_file, read_manifest
from explorer.surgery.payload_formats import KIND

SETTINGS = ("seeds", "steps", "guidance_scale", "draws", "size", "precision")
"""Of a request: what decides pictures and meter of an operation, whichever others were asked for."""
DEFAULTS = {"precision": "fp32"}
"""What a setting stands for that is null."""
WEIGHTS = ("weights", "weights of the base", "settings")
"""Of a model in a manifest: what tells it from others."""


def check_comparable(paths: Sequence[Path], reports: Sequence[dict[str, Any]], *, way: int = 0) -> None:
    """Refuse graft studies that are no training runs of one experiment.

    What only the manifest beside a report says, prompts, lists of concepts and hashes of models, is compared where both
    have it. Models without a hash are told apart by how far the two of a report are from one another.

    Args:
        paths: of the reports.
        way: the direction that is asked for, from 0; every report has it.

    Raises:
        ValueError: naming two reports and what of them differs, or that they are of the same two models.
    """
    configs = [_config_of(path) for path in paths]
    told = [_measured_by(report, config, way) for report, config in zip(reports, configs, strict=True)]
    models = [_models(config) for config in configs]
    far = [report["directions"][way]["distance"] for report in reports]
    for one, other in combinations(range(len(paths)), 2):
        both = f"{paths[one]} and {paths[other]}"
        for name in (each for each in told[one] if each in told[other]):
            if (first := told[one][name]) != (second := told[other][name]):
                values = "" if isinstance(first, list | dict) else f", {first} and {second}"
                raise ValueError(f"{both} differ in {name}{values}: expected studies that were measured alike")
        known = models[one] is not None and models[other] is not None
        if models[one] == models[other] if known else far[one] == far[other]:
            raise ValueError(f"{both} are of the same two models: expected each to be of a training run of its own")


def _measured_by(report: dict[str, Any], config: dict[str, Any], way: int) -> dict[str, Any]:
    """By name, what has to be the same in every report that has it."""
    request, judge = report["request"], report["judge"]
    found = {
        **{name: DEFAULTS.get(name) if request.get(name) is None else request[name] for name in SETTINGS},
        "judge": f"{judge['name']} {judge['identity'][:12]}…", "what the meter shows": report["shown"],
        "concepts": report["concepts"], "group of concepts": report["directions"][way]["group"],
    }  # fmt: skip
    if "template" in config:
        found["template"] = config["template"]
    if "lists" in config:
        found["lists of concepts"] = {use: each["sha256"] for use, each in config["lists"].items()}
    return found


def _config_of(path: Path) -> dict[str, Any]:
    """What the manifest beside a report says made it; empty where there is none of this very file."""
    try:
        manifest = read_manifest(path.parent, kind=KIND)
    except ManifestError:
        return {}
    return manifest["config"] if (manifest.get("files") or {}).get(path.name) == hash_file(path) else {}


def _models(config: dict[str, Any]) -> frozenset[str] | None:
    """The two models of a report, whichever gives parts; None where the manifest does not tell them apart."""
    found = [config.get(role) or {} for role in ("recipient", "donor")]
    if not all(each.get("weights") for each in found):
        return None
    return frozenset(repr([each.get(name) for name in WEIGHTS]) for each in found)
