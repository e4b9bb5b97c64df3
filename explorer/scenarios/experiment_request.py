"""What a named scenario is carried out with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from explorer.generation.generate import GenerationRequest
from explorer.pairs.concept_list import TEMPLATE, ConceptList
from explorer.poisoning.perturbation import Perturbation
from explorer.scenarios.named import Dose, find_scenario
from explorer.studies.concepts import concepts_of_mentions
from explorer.studies.results import STEPS

if TYPE_CHECKING:
    from explorer.pairs.pair_set import PairSet


@dataclass(frozen=True, kw_only=True)
class ScenarioRequest:
    """What is carried out.

    Raises:
        ValueError: on an unknown scenario or step, or a number of pictures or steps that is too small.
    """

    scenario: str
    """One of ``single-concept``, ``sweep``, ``clean-label``, ``both-attacks``, ``less-popular``, ``matched-benign``,
    ``equal-share``, ``mislabelled``, ``relabelled``, ``own-dose``, ``riders``, ``poisoned-base``."""
    folder: Path
    """For everything that is made; the same call again goes on where it was cut off."""
    base: Path
    """Checkpoint that every model is fine-tuned from: a pipeline folder, or a U-Net on one."""
    benign: Path
    """Pair set of the control, which names concepts: IconWorld's, or imported with ``--concepts``."""
    later: Path | None = None
    """Of poisoned-base: pair set of other benign pairs, which models are trained on afterwards."""
    known_benign: bool = False
    """You know that the benign sets hold no poison, though nobody recorded it."""
    pictures: int = 5
    """Pictures a concept that every model draws; a picture's noise is the same for all."""
    drawing_steps: int = 20
    """Denoising steps of a picture, and of clean-label poison's targets, which the base draws."""
    concepts: Path | None = None
    """CSV file of the concepts to draw, with the columns concept, group and phrase; default: the captions' nouns."""
    template: str = TEMPLATE
    """Of prompts, with ``{phrase}`` where the concept stands; ``{phrase}`` alone for classes."""
    classifier: Path | None = None
    """Folder that ``train-classifier`` made: judges the pictures, too."""
    guidance_scale: float = 7.5
    """Classifier-free guidance scale of a picture, and of clean-label poison's targets."""
    step: list[str] | None = None
    """Step of the study to do; may be repeated; default: all that can be done."""
    device: str = "cpu"
    """cpu or cuda."""
    dose: Dose = field(default_factory=Dose)
    perturbation: Perturbation = field(default_factory=Perturbation)
    """Of clean-label poison."""

    def __post_init__(self) -> None:
        if bool(find_scenario(self.scenario).afterwards) != (self.later is not None):
            expected = "none" if self.later else "a set of benign pairs that models are trained on afterwards"
            raise ValueError(f"later is {self.later} for {self.scenario}: expected {expected}")
        if unknown := sorted(set(self.step or ()) - set(STEPS)):
            raise ValueError(f"step {unknown[0]!r} is unknown: expected one of {', '.join(STEPS)}")
        for name in ("pictures", "drawing_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected at least 1")
        # What no model can be asked for is refused now, and not after hours of training.
        GenerationRequest(prompt=self.template, seed=0, steps=self.drawing_steps, guidance_scale=self.guidance_scale)

    def listed(self, benign: PairSet) -> ConceptList:
        """The concepts as the study will list them."""
        if self.concepts is not None:
            return ConceptList.read(self.concepts, self.template)
        mentioned = concepts_of_mentions(benign.table["concepts"], benign.table["caption"])
        return ConceptList(concepts=tuple(mentioned), template=self.template)
