"""What the steps of a study are made from, by name and fingerprint, each looked up once; and why one cannot be made."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

from explorer.checkpoints.registry import Checkpoint
from explorer.checkpoints.weights_hash import configurations_hash
from explorer.core.poison_record import PoisonRecord
from explorer.core.provenance import ManifestError, hash_file, hash_json, read_manifest
from explorer.pairs.concept_list import ConceptList
from explorer.studies.arms import arm_checkpoint, known_poison
from explorer.studies.fingerprints import (
    checkpoint_fingerprint,
    concepts_fingerprint,
    extractor_configuration,
    extractor_fingerprint,
    file_fingerprint,
    pairs_fingerprint,
)
from explorer.studies.recorded import CONCEPT_NAMES, CONFIGURATIONS, EXTRACTOR_CONFIGURATION, Recorded, named
from explorer.studies.results import COMPARISON, FILM_STRIP, PICTURES
from explorer.studies.specs import ExtractorSpec
from explorer.studies.study import CONCEPTS_NAME, Arm, Study

CHECKPOINT, PAIRS = "checkpoint", "pairs"


def _content(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: expected the file that study.toml names")
    return hash_file(path)


class StudyInputs:
    """Of one study as it is now. Whatever is missing raises ValueError or OSError, which say what is needed."""

    def __init__(self, study: Study, precision: str | None = None) -> None:
        """``precision`` is what models are to draw in; None for what they drew in before, else fp32."""
        self.study = study
        drawn = (Recorded.read(study, step).settings.get("precision") for step in (PICTURES, FILM_STRIP, COMPARISON))
        self.precision: str = precision or next((each for each in drawn if isinstance(each, str)), "fp32")
        self._checkpoints: dict[str, Checkpoint] = {}
        self._pairs: dict[str, str] = {}
        self._configurations: dict[str, str] = {}

    def checkpoint(self, arm: Arm) -> Checkpoint:
        """The arm's checkpoint, which nothing is known against."""
        if arm.checkpoint is None:
            raise ValueError("it has no checkpoint: expected one in study.toml")
        if not os.path.lexists(arm.checkpoint):
            raise FileNotFoundError(f"its checkpoint is not at {arm.checkpoint}: write its new place into study.toml")
        if arm.name not in self._checkpoints:
            self._checkpoints[arm.name] = arm_checkpoint(arm)
        found = self._checkpoints[arm.name]
        if found.problem is not None:
            raise ValueError(f"its checkpoint cannot be used: {found.problem}")
        return found

    @cached_property
    def poison(self) -> dict[str, PoisonRecord]:
        """What is known of the poison of every arm, by name, whether its checkpoint is there and sound or not."""
        return {arm.name: known_poison(arm) for arm in self.study.arms}

    def of_checkpoint(self, arm: Arm) -> dict[str, str]:
        """The arm's checkpoint as inputs: what tells its weights and sampler apart comes first."""
        checkpoint = self.checkpoint(arm)
        if arm.name not in self._configurations:
            self._configurations[arm.name] = configurations_hash(checkpoint)
        return {
            named(CHECKPOINT, arm.name): checkpoint_fingerprint(checkpoint),
            named(CONFIGURATIONS, arm.name): self._configurations[arm.name],
        }

    def of_model(self, arm: Arm) -> dict[str, str]:
        """The arm's checkpoint and what is known of its poison, as inputs."""
        poison = self.checkpoint(arm).poison
        return self.of_checkpoint(arm) | {named("poison", arm.name): hash_json(poison.as_json())}

    def of_pairs(self, arm: Arm) -> dict[str, str]:
        """The arm's pairs as an input."""
        if arm.pairs is None:
            raise ValueError("it has no pairs: expected some in study.toml")
        if arm.name not in self._pairs:
            self._pairs[arm.name] = pairs_fingerprint(arm)
        return {named(PAIRS, arm.name): self._pairs[arm.name]}

    def pair_count(self, arm: Arm) -> int | None:
        """How many pairs an arm has, where a manifest says so, or an embedding store on this machine."""
        from explorer.studies.pairs_found import count_embedded

        try:
            return read_manifest(arm.pairs)["counts"]["pairs"]
        except (ManifestError, KeyError, TypeError):
            return count_embedded(arm.pairs) if isinstance(arm.pairs, Path) else None

    @cached_property
    def concepts(self) -> ConceptList:
        """The study's concepts."""
        if not (self.study.folder / CONCEPTS_NAME).is_file():
            raise FileNotFoundError(f"{self.study.folder} has no {CONCEPTS_NAME}: expected a column called concept")
        return self.study.concept_list()

    @property
    def concept_names(self) -> tuple[str, ...]:
        """Names of the study's concepts; none where it has no list of them."""
        return self.concepts.names if (self.study.folder / CONCEPTS_NAME).is_file() else ()

    @cached_property
    def of_concepts(self) -> dict[str, str]:
        """The concepts as an input."""
        return {"concepts": concepts_fingerprint(self.concepts)}

    @cached_property
    def of_extractor(self) -> dict[str, str]:
        """The universal extractor as an input, or two."""
        found = {"extractor": extractor_fingerprint(self.study.extractor)}
        configuration = extractor_configuration(self.study.extractor)
        return found if configuration is None else found | {EXTRACTOR_CONFIGURATION: configuration}

    @cached_property
    def of_concept_names(self) -> dict[str, str]:
        """Names of the concepts as an input."""
        return {CONCEPT_NAMES: hash_json(self.concept_names)}

    @cached_property
    def of_judge(self) -> dict[str, str]:
        """The universal extractor as an input, where the study names one: it says what is seen in pictures."""
        return {} if self.study.extractor == ExtractorSpec() else self.of_extractor

    @cached_property
    def of_readers(self) -> dict[str, str]:
        """Aesthetics head and classifier as inputs, where the study has them."""
        study, found = self.study, {}
        if (head := study.aesthetics) is not None:
            own = [] if head.extractor is None else [extractor_fingerprint(head.extractor)]
            # By its content, since it is small: so a study is not stale in a clone.
            found["aesthetics head"] = hash_json([_content(head.head), head.threshold, *own])
        if (spec := study.classifier) is not None:
            files = [file_fingerprint(spec.weights), file_fingerprint(spec.class_names)]
            found["classifier"] = hash_json([spec.architecture, spec.preparation, *files])
        return found
