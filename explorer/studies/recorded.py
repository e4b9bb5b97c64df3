"""What a step's manifest says that its results were made from; the names of arms' inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from explorer.core.provenance import ManifestError, hash_json
from explorer.studies.results import step_manifest
from explorer.studies.study import Study

OF = " of "
CONFIGURATIONS, EXTRACTOR_CONFIGURATION, CONCEPT_NAMES = "configurations", "extractor configuration", "concept names"
CAME_LATER = (CONFIGURATIONS, EXTRACTOR_CONFIGURATION, CONCEPT_NAMES)
"""Kinds of inputs that earlier releases did not record, at least not of every step: where one is not recorded, nobody
can say that it changed."""
LOSS_MODEL = "loss model "


def named(kind: str, arm: str) -> str:
    """How an arm's input is called."""
    return f"{kind}{OF}{arm}"


def arm_named(name: str) -> str | None:
    """The arm that an input is of; None for one that all arms share."""
    return None if name.startswith(LOSS_MODEL) else name.partition(OF)[2] or None


def loss_model(arm: str) -> str:
    """How a model that measures losses is called, which all arms share."""
    return f"{LOSS_MODEL}{arm}"


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What a step's manifest says that it was made from; empty where the step is not there."""

    settings: dict[str, Any]
    inputs: dict[str, str]
    work: dict[str, Any]

    @staticmethod
    def read(study: Study, step: str) -> Recorded:
        """Of the step as it lies there; one whose manifest is not readable is taken for missing."""
        try:
            manifest = step_manifest(study, step)
        except ManifestError:
            return Recorded(settings={}, inputs={}, work={})
        config = manifest["config"]
        return Recorded(
            settings=config.get("settings") or {}, inputs=config.get("inputs") or {}, work=manifest.get("work") or {}
        )

    @property
    def arms(self) -> set[str]:
        """Arms that the results are of."""
        return {arm for arm in map(arm_named, self.inputs) if arm is not None}

    def of_arm(self, arm: str) -> dict[str, str]:
        """The recorded inputs of one arm."""
        return {name: value for name, value in self.inputs.items() if arm_named(name) == arm}

    @property
    def shared(self) -> dict[str, str]:
        """The recorded inputs that all arms share."""
        return {name: value for name, value in self.inputs.items() if arm_named(name) is None}

    def changes(self, settings: dict[str, Any], shared: dict[str, str]) -> list[str]:
        """Settings and shared inputs that differ from those recorded, by name."""
        return [*differing_names(self.settings, settings), *differing_names(self.shared, shared)]

    @property
    def seconds_a_unit(self) -> float | None:
        """Measured rate of the last run."""
        seconds, units = self.work.get("seconds"), self.work.get("units")
        return seconds / units if isinstance(seconds, int | float) and units else None


def differing_names(recorded: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Names of what is not the same in both, sorted."""
    names = sorted(name for name in recorded.keys() | now.keys() if recorded.get(name) is not None or not _late(name))
    return [name for name in names if hash_json(recorded.get(name)) != hash_json(now.get(name))]


def _late(name: str) -> bool:
    return name.removeprefix(LOSS_MODEL).partition(OF)[0] in CAME_LATER
