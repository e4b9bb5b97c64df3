"""A named scenario carried out on any base and any benign pairs: sets, models, and the study that measures them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.attention.words import read_lexicon, unknown_words
from explorer.core.folder_lock import locked
from explorer.core.new_folder import check_new_folder
from explorer.core.progress import OnProgress, note, unheard
from explorer.core.provenance import MANIFEST_NAME, read_manifest, write_manifest
from explorer.generation.generate import GenerationRequest
from explorer.pairs.concept_list import TEMPLATE, ConceptList
from explorer.pairs.pair_set import PairSet
from explorer.poisoning.attack import check_no_poison
from explorer.poisoning.perturbation import Perturbation
from explorer.scenarios.classifier_files import classifier_spec
from explorer.scenarios.named import CONTROL, Dose, find_scenario
from explorer.studies.concepts import concepts_of_mentions
from explorer.studies.discovery import StudyRequest, new_study
from explorer.studies.results import STEPS
from explorer.studies.running import RunRequest, run_study
from explorer.studies.specs import ExtractorSpec
from explorer.studies.study import STUDY_NAME, Study

if TYPE_CHECKING:
    from explorer.checkpoints.registry import Checkpoint
    from explorer.poisoning.attack import Attack
    from explorer.studies.specs import ClassifierSpec
    from explorer.training.recipes import FineTuningRecipe

KIND = "scenario"
SETS, MODELS, TRAINING, ENCODED, STUDY = "sets", "models", "training", "encoded", "study"
"""What a scenario's folder holds; ``study`` is one like any other."""
WORKING = ".perturbed"
"""In a set's folder what is finished of clean-label poison while the set is not."""


@dataclass(frozen=True, kw_only=True)
class ScenarioRequest:
    """What is carried out.

    Raises:
        ValueError: on an unknown scenario or step, or a number of pictures or steps that is too small.
    """

    scenario: str
    """One of ``single-concept``, ``sweep``, ``clean-label``, ``both-attacks``, ``less-popular``, ``matched-benign``,
    ``equal-share``, ``mislabelled``, ``relabelled``, ``own-dose``, ``riders``."""
    folder: Path
    """For everything that is made; the same call again goes on where it was cut off."""
    base: Path
    """Checkpoint that every model is fine-tuned from: a pipeline folder, or a U-Net on one."""
    benign: Path
    """Pair set of the control, which names concepts: IconWorld's, or imported with ``--concepts``."""
    known_benign: bool = False
    """You know that the benign set holds no poison, though nobody recorded it."""
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
        find_scenario(self.scenario)
        if unknown := sorted(set(self.step or ()) - set(STEPS)):
            raise ValueError(f"step {unknown[0]!r} is unknown: expected one of {', '.join(STEPS)}")
        for name in ("pictures", "drawing_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected at least 1")
        # What no model can be asked for is refused now, and not after hours of training.
        GenerationRequest(prompt=self.template, seed=0, steps=self.drawing_steps, guidance_scale=self.guidance_scale)


def carry_out_scenario(
    request: ScenarioRequest, recipe: FineTuningRecipe, extractor: ExtractorSpec, on_progress: OnProgress = unheard
) -> dict[str, Any]:
    """Make the sets, train a model on each, and measure them as a study; what is there already is not made again.

    Everything that can be refused is refused before any work: the base, and what every attack needs of the pairs.

    Returns:
        ``arms``, ``study`` (its folder), and ``failed``: steps of the study that could not be done, with the reason.

    Raises:
        ValueError: naming what is wrong with the request, the base or the pairs; or if ``folder`` holds another
            scenario.
    """
    from explorer.training.fine_tune import check_base, fine_tune

    check_no_poison(benign := PairSet.load(request.benign))
    named = {name for mentioned in benign.table["concepts"] for name in mentioned}
    classifier = None if request.classifier is None else classifier_spec(request.classifier, named)
    _check_prompts(request, check_base(request.base, recipe), benign)
    scenario, config = find_scenario(request.scenario), _config(request, recipe, benign, extractor)
    training, folder = recipe.training, request.folder
    _check_same(folder, config)
    attacks = _attacks(request, recipe, benign, extractor, on_progress)
    with locked(folder):
        _claim(request, config, benign)
        models, samples = len(attacks) + 1, training.steps * training.batch_size
        on_progress(note(
            f"{request.scenario} ({scenario.about}): {models} models, {training.steps} steps of {training.batch_size} "
            f"each, {models * samples:,} samples in all"
        ))  # fmt: skip
        sets = {CONTROL: benign}
        for name in list(attacks):
            # Let go, so that the autoencoder and the CLIP of clean-label poison leave before a model is trained.
            sets[name] = _made(attacks.pop(name), benign, folder / SETS / name, request.known_benign)
        for at, (name, pairs) in enumerate(sets.items(), start=1):
            on_progress(note(f"{name}: model {at} of {len(sets)}"))
            fine_tune(
                request.base, pairs, recipe, folder / MODELS / name, run=folder / TRAINING / name,
                cache=folder / ENCODED, device=request.device, on_progress=on_progress,
            )  # fmt: skip
        study = _study(request, extractor, classifier, sets, on_progress)
        report = run_study(study, RunRequest(steps=tuple(request.step or ()), device=request.device), on_progress)
    return {"arms": list(sets), "study": str(study.folder), "failed": report.failed}


def _check_prompts(request: ScenarioRequest, base: Checkpoint, benign: PairSet) -> None:
    """Before hours of training: that a base with a closed list of words knows those of every prompt."""
    lexicon = read_lexicon(base.whole.path / "tokenizer")
    if lexicon is None:
        return
    listed = _listed(request, benign)
    prompts = [listed.prompt(name) for name in listed.names]
    if unknown := next((f"{word!r} of the prompt {prompt!r}" for prompt in prompts
                        for word in unknown_words(lexicon, prompt)), None):  # fmt: skip
        raise ValueError(f"base {base.name} does not know the word {unknown}: expected one of the {len(lexicon)} words "
                         "that its tokenizer lists; --concept-list gives every concept its phrase")  # fmt: skip


def _listed(request: ScenarioRequest, benign: PairSet) -> ConceptList:
    """The concepts as the study will list them."""
    if request.concepts is not None:
        return ConceptList.read(request.concepts, request.template)
    mentioned = concepts_of_mentions(benign.table["concepts"], benign.table["caption"])
    return ConceptList(concepts=tuple(mentioned), template=request.template)


def _attacks(
    request: ScenarioRequest, recipe: FineTuningRecipe, benign: PairSet, extractor: ExtractorSpec,
    on_progress: OnProgress,
) -> dict[str, Attack | None]:  # fmt: skip
    """By the names of the sets, None where one is there already. Each is checked against the pairs, the cheap ones
    before any model is loaded."""
    scenario, dose = find_scenario(request.scenario), request.dose
    dirty, clean = scenario.sets(dose, benign), scenario.clean_label(dose)
    found = dict.fromkeys([*dirty, *clean])
    missing = [name for name in found if not (request.folder / SETS / name / MANIFEST_NAME).exists()]
    found |= _planned(request, {name: dirty[name] for name in missing if name in dirty}, benign)
    if not set(missing) & set(clean):
        return found
    from explorer.scenarios.clean_label_sets import clean_label

    side, sides = recipe.resolution, sorted(set(benign.images.shape[1:3]))
    if sides != [side]:
        raise ValueError(f"pictures of {benign.folder} are of {sides} pixels, models are trained on {side}: expected "
                         "the same, since fitting would undo the perturbation")  # fmt: skip
    on_progress(note(f"{request.base} draws the targets of clean-label poison, and its autoencoder is misled"))
    perturbing = clean_label(
        {name: clean[name] for name in missing if name in clean}, benign, request.base, extractor,
        request.perturbation, lambda name: request.folder / SETS / name / WORKING, steps=request.drawing_steps,
        guidance_scale=request.guidance_scale, listed=_listed(request, benign), device=request.device,
        on_progress=on_progress,
    )  # fmt: skip
    return found | _planned(request, perturbing, benign)


def _planned(request: ScenarioRequest, attacks: Mapping[str, Attack], benign: PairSet) -> Mapping[str, Attack]:
    for name, attack in attacks.items():
        try:
            attack.plan(benign)
        except ValueError as error:
            raise ValueError(f"{request.scenario} cannot make {name}: {error}") from error
    return attacks


def _config(
    request: ScenarioRequest, recipe: FineTuningRecipe, benign: PairSet, extractor: ExtractorSpec
) -> dict[str, Any]:
    """What the folder's manifest says that it is of. The extractor is a part of it where it chooses pairs; else it
    belongs to the study, where a person may change it."""
    asked = {name: value for name, value in asdict(request).items() if name not in ("folder", "step", "device")}
    chooses = bool(find_scenario(request.scenario).clean_label(request.dose))
    chooser = {"extractor": {name: str(value) for name, value in asdict(extractor).items()}} if chooses else {}
    return json.loads(json.dumps(asked | {
        "base": os.path.abspath(request.base), "benign": os.path.abspath(request.benign), "data": benign.data_hash,
        "concepts": None if request.concepts is None else os.path.abspath(request.concepts),
        "classifier": None if request.classifier is None else os.path.abspath(request.classifier),
        "recipe": asdict(recipe),
    } | chooser))  # fmt: skip


def _check_same(folder: Path, config: dict[str, Any]) -> None:
    if not (folder / MANIFEST_NAME).exists():
        return
    # Of before there was a choice.
    known = {"template": TEMPLATE, "classifier": None, "perturbation": asdict(Perturbation())}
    known |= read_manifest(folder, kind=KIND)["config"]
    known["perturbation"] = asdict(Perturbation()) | known["perturbation"]
    if differing := sorted(name for name in {*config, *known} if known.get(name) != config.get(name)):
        raise ValueError(f"{folder} holds a scenario of another {', '.join(differing)}: choose a new folder")


def _claim(request: ScenarioRequest, config: dict[str, Any], benign: PairSet) -> None:
    """Write the manifest that says what the folder is of, or check that it is of the same."""
    _check_same(request.folder, config)
    if not (request.folder / MANIFEST_NAME).exists():
        check_new_folder(request.folder)
        write_manifest(request.folder, kind=KIND, config=config, seed=request.dose.seed, data_hash=benign.data_hash)


def _made(attack: Attack | None, benign: PairSet, folder: Path, known_benign: bool) -> PairSet:
    """The set that an attack makes; one that lies there is of the same request, since the scenario's folder is."""
    if attack is not None:
        folder.parent.mkdir(exist_ok=True)
        attack.apply(benign, folder, known_benign=known_benign)
    # What a kill right after the set was finished left behind.
    shutil.rmtree(folder / WORKING, ignore_errors=True)
    return PairSet.load(folder)


def _study(
    request: ScenarioRequest, extractor: ExtractorSpec, classifier: ClassifierSpec | None, sets: dict[str, PairSet],
    on_progress: OnProgress,
) -> Study:  # fmt: skip
    """The study of the models, made once; what a person wrote into its ``study.toml`` since then holds."""
    folder = request.folder / STUDY
    if (folder / STUDY_NAME).is_file():
        return Study.load(folder)
    made = new_study(
        StudyRequest(
            folder=folder, checkpoints=tuple(str(request.folder / MODELS / name) for name in sets),
            pairs=tuple(str(each.folder) for each in sets.values()), extractor=extractor,
            concepts=request.concepts, name=request.scenario, control=CONTROL,
        ),
        on_progress,
    )  # fmt: skip
    for told in (*made.assumed, *(f"open: {question}" for question in made.left_open)):
        on_progress(note(told))
    study = replace(
        made.study, seeds=tuple(range(request.pictures)), steps=request.drawing_steps,
        guidance_scale=request.guidance_scale, template=request.template, classifier=classifier,
    )  # fmt: skip
    study.write()
    return Study.load(folder)
