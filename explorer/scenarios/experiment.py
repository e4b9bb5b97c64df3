"""A named scenario carried out on any base and any benign pairs: sets, models, and the study that measures them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.attention.words import read_lexicon, unknown_words
from explorer.core.folder_lock import locked
from explorer.core.new_folder import check_new_folder
from explorer.core.poison_record import NO_POISON
from explorer.core.progress import OnProgress, note, unheard
from explorer.core.provenance import MANIFEST_NAME, read_manifest, write_manifest
from explorer.pairs.concept_list import TEMPLATE
from explorer.pairs.pair_set import PairSet
from explorer.poisoning.attack import check_no_poison
from explorer.poisoning.perturbation import Perturbation
from explorer.scenarios.classifier_files import classifier_spec
from explorer.scenarios.experiment_request import ScenarioRequest
from explorer.scenarios.experiment_sets import check_sides, made_set, planned_attacks, planned_later_attacks
from explorer.scenarios.named import CONTROL, LATER, find_scenario
from explorer.studies.arms import known_poison
from explorer.studies.discovery import StudyRequest, new_study
from explorer.studies.running import RunRequest, run_study
from explorer.studies.specs import ExtractorSpec
from explorer.studies.study import STUDY_NAME, Arm, Study

if TYPE_CHECKING:
    from explorer.checkpoints.registry import Checkpoint
    from explorer.studies.specs import ClassifierSpec
    from explorer.training.config import TrainingConfig
    from explorer.training.recipes import FineTuningRecipe

KIND = "scenario"
SETS, MODELS, TRAINING, ENCODED, STUDY = "sets", "models", "training", "encoded", "study"
"""What a scenario's folder holds; ``study`` is one like any other."""


def carry_out_scenario(
    request: ScenarioRequest, recipe: FineTuningRecipe, extractor: ExtractorSpec, on_progress: OnProgress = unheard,
    *, sets: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Make the sets, train a model on each, and measure them as a study; what is there already is not made again.

    Everything that can be refused is refused before any work: the base, and what every attack needs of the pairs.

    Args:
        sets: folder of the poisoned sets, where the same request has made them for another base; None for one of its
            own.

    Returns:
        ``arms``, ``study`` (its folder), and ``failed``: steps of the study that could not be done, with the reason.

    Raises:
        ValueError: naming what is wrong with the request, the base or the pairs; or if ``folder`` holds another
            scenario.
    """
    pairs, classifier, config = check_scenario(request, recipe, extractor)
    benign, folder = pairs[CONTROL], request.folder
    sets = folder / SETS if sets is None else sets
    attacks = planned_attacks(request, sets, benign, extractor, on_progress)
    attacks |= planned_later_attacks(request, sets, pairs)
    models = _models(request, [CONTROL, *attacks])
    with locked(folder):
        _claim(request, config, benign)
        _tell(request, recipe.training, len(models), on_progress)
        for name in list(attacks):
            # Let go, so that the autoencoder and the CLIP of clean-label poison leave before a model is trained.
            source = pairs[LATER] if name in find_scenario(request.scenario).later_sets(request.dose) else benign
            pairs[name] = made_set(attacks.pop(name), source, sets / name, request.known_benign)
        _train(request, recipe, models, pairs, on_progress)
        study = _study(request, extractor, classifier, list(models), pairs, on_progress)
        report = run_study(study, RunRequest(steps=tuple(request.step or ()), device=request.device), on_progress)
    return {"arms": list(models), "study": str(study.folder), "failed": report.failed}


def check_scenario(
    request: ScenarioRequest, recipe: FineTuningRecipe, extractor: ExtractorSpec
) -> tuple[dict[str, PairSet], ClassifierSpec | None, dict[str, Any]]:
    """Refuse what can be refused without loading a model's weights, but for what each attack needs of the pairs.

    Returns:
        The given pairs by name, the classifier, and what the folder's manifest is to say.

    Raises:
        ValueError: as :func:`carry_out_scenario`.
    """
    from explorer.training.fine_tune import check_base

    check_no_poison(benign := PairSet.load(request.benign))
    pairs = {CONTROL: benign} | ({} if request.later is None else {LATER: _later(request.later, benign)})
    named = {name for mentioned in benign.table["concepts"] for name in mentioned}
    classifier = None if request.classifier is None else classifier_spec(request.classifier, named)
    _check_prompts(request, check_base(request.base, recipe), benign)
    check_sides(request, recipe, benign)
    config = _config(request, recipe, pairs, extractor)
    _check_same(request.folder, config)
    return pairs, classifier, config


def _later(path: Path, benign: PairSet) -> PairSet:
    """The pairs that models are trained on afterwards: benign ones, and others than the control's."""
    check_no_poison(later := PairSet.load(path))
    if later.data_hash == benign.data_hash:
        raise ValueError(f"later is {path}, the pairs of the control: expected others")
    return later


def _models(request: ScenarioRequest, sets: Iterable[str]) -> dict[str, tuple[Path, str]]:
    """By the names of the models the checkpoint that each starts from, and the set that it is trained on."""
    afterwards = find_scenario(request.scenario).afterwards
    later = {name for _, name in afterwards.values()}
    first = {name: (request.base, name) for name in sets if name not in later}
    return first | {name: (request.folder / MODELS / earlier, on) for name, (earlier, on) in afterwards.items()}


def _tell(request: ScenarioRequest, training: TrainingConfig, models: int, on_progress: OnProgress) -> None:
    on_progress(note(
        f"{request.scenario} ({find_scenario(request.scenario).about}): {models} models, {training.steps} steps of "
        f"{training.batch_size} each, {models * training.steps * training.batch_size:,} samples in all"
    ))  # fmt: skip


def _train(
    request: ScenarioRequest, recipe: FineTuningRecipe, models: Mapping[str, tuple[Path, str]],
    sets: Mapping[str, PairSet], on_progress: OnProgress,
) -> None:  # fmt: skip
    from explorer.training.fine_tune import fine_tune

    folder = request.folder
    for at, (name, (base, trained_on)) in enumerate(models.items(), start=1):
        on_progress(note(f"{name}: model {at} of {len(models)}"))
        fine_tune(
            base, sets[trained_on], recipe if base == request.base else replace(recipe, from_scratch=False),
            folder / MODELS / name, run=folder / TRAINING / name, cache=folder / ENCODED, device=request.device,
            on_progress=on_progress,
        )  # fmt: skip


def _check_prompts(request: ScenarioRequest, base: Checkpoint, benign: PairSet) -> None:
    """Before hours of training: that a base with a closed list of words knows those of every prompt."""
    lexicon = read_lexicon(base.whole.path / "tokenizer")
    if lexicon is None:
        return
    listed = request.listed(benign)
    prompts = [listed.prompt(name) for name in listed.names]
    if unknown := next((f"{word!r} of the prompt {prompt!r}" for prompt in prompts
                        for word in unknown_words(lexicon, prompt)), None):  # fmt: skip
        raise ValueError(f"base {base.name} does not know the word {unknown}: expected one of the {len(lexicon)} words "
                         "that its tokenizer lists; --concept-list gives every concept its phrase")  # fmt: skip


def _config(
    request: ScenarioRequest, recipe: FineTuningRecipe, given: Mapping[str, PairSet], extractor: ExtractorSpec
) -> dict[str, Any]:
    """What the folder's manifest says that it is of. The extractor is a part of it where it chooses pairs; else it
    belongs to the study, where a person may change it."""
    asked = {name: value for name, value in asdict(request).items() if name not in ("folder", "step", "device")}
    chooses = bool(find_scenario(request.scenario).clean_label(request.dose))
    chooser = {"extractor": {name: str(value) for name, value in asdict(extractor).items()}} if chooses else {}
    return json.loads(json.dumps(asked | {
        "base": os.path.abspath(request.base), "benign": os.path.abspath(request.benign),
        "data": given[CONTROL].data_hash,
        "later": None if request.later is None else [os.path.abspath(request.later), given[LATER].data_hash],
        "concepts": None if request.concepts is None else os.path.abspath(request.concepts),
        "classifier": None if request.classifier is None else os.path.abspath(request.classifier),
        "recipe": asdict(recipe),
    } | chooser))  # fmt: skip


def _check_same(folder: Path, config: dict[str, Any]) -> None:
    if not (folder / MANIFEST_NAME).exists():
        return
    # Of before there was a choice.
    known = {"template": TEMPLATE, "classifier": None, "later": None, "perturbation": asdict(Perturbation())}
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


def _as_said(request: ScenarioRequest, arms: tuple[Arm, ...]) -> tuple[Arm, ...]:
    """With what ``known_benign`` says of the later pairs, where nobody recorded it."""
    if not request.known_benign:
        return arms
    afterwards, known = find_scenario(request.scenario).afterwards, {arm.name: known_poison(arm) for arm in arms}
    benign = {name: known[earlier].followed_by(NO_POISON) for name, (earlier, on) in afterwards.items() if on == LATER}
    return tuple(replace(arm, poison=benign.get(arm.name, arm.poison)) for arm in arms)


def _study(
    request: ScenarioRequest, extractor: ExtractorSpec, classifier: ClassifierSpec | None, models: list[str],
    sets: Mapping[str, PairSet], on_progress: OnProgress,
) -> Study:  # fmt: skip
    """The study of the models, made once; what a person wrote into its ``study.toml`` since then holds."""
    folder = request.folder / STUDY
    if (folder / STUDY_NAME).is_file():
        return Study.load(folder)
    made = new_study(
        StudyRequest(
            folder=folder, checkpoints=tuple(str(request.folder / MODELS / name) for name in models),
            pairs=tuple(str(each.folder) for each in sets.values()), extractor=extractor,
            concepts=request.concepts, name=f"{request.scenario} on {request.base.name}", control=CONTROL,
        ),
        on_progress,
    )  # fmt: skip
    for told in (*made.assumed, *(f"open: {question}" for question in made.left_open)):
        on_progress(note(told))
    study = replace(
        made.study, arms=_as_said(request, made.study.arms), seeds=tuple(range(request.pictures)),
        steps=request.drawing_steps, guidance_scale=request.guidance_scale, template=request.template,
        classifier=classifier,
    )  # fmt: skip
    study.write()
    return Study.load(folder)
