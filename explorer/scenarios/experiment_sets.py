"""The pair sets of a named scenario: planned before any work, and made where they are not there yet."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from explorer.core.progress import OnProgress, note
from explorer.core.provenance import MANIFEST_NAME
from explorer.pairs.pair_set import PairSet
from explorer.scenarios.named import LATER, find_scenario

if TYPE_CHECKING:
    from pathlib import Path

    from explorer.poisoning.attack import Attack
    from explorer.scenarios.experiment_request import ScenarioRequest
    from explorer.studies.specs import ExtractorSpec
    from explorer.training.recipes import FineTuningRecipe

WORKING = ".perturbed"
"""In a set's folder what is finished of clean-label poison while the set is not."""


def check_sides(request: ScenarioRequest, recipe: FineTuningRecipe, benign: PairSet) -> None:
    """That clean-label poison reaches the model as it was made.

    Raises:
        ValueError: if the pictures would be fitted to another size.
    """
    side, sides = recipe.resolution, sorted(set(benign.images.shape[1:3]))
    if find_scenario(request.scenario).clean_label(request.dose) and sides != [side]:
        raise ValueError(f"pictures of {benign.folder} are of {sides} pixels, models are trained on {side}: expected "
                         "the same, since fitting would undo the perturbation")  # fmt: skip


def planned_attacks(
    request: ScenarioRequest, sets: Path, benign: PairSet, extractor: ExtractorSpec, on_progress: OnProgress
) -> dict[str, Attack | None]:  # fmt: skip
    """By the names of the sets, None where one is there already. Each is checked against the pairs, the cheap ones
    before any model is loaded."""
    scenario, dose = find_scenario(request.scenario), request.dose
    dirty, clean = scenario.sets(dose, benign), scenario.clean_label(dose)
    found = dict.fromkeys([*dirty, *clean])
    missing = _missing(sets, found)
    found |= _planned(request, {name: dirty[name] for name in missing if name in dirty}, benign)
    if not set(missing) & set(clean):
        return found
    from explorer.scenarios.clean_label_sets import clean_label

    on_progress(note(f"{request.base} draws the targets of clean-label poison, and its autoencoder is misled"))
    perturbing = clean_label(
        {name: clean[name] for name in missing if name in clean}, benign, request.base, extractor,
        request.perturbation, lambda name: sets / name / WORKING, steps=request.drawing_steps,
        guidance_scale=request.guidance_scale, listed=request.listed(benign), device=request.device,
        on_progress=on_progress,
    )  # fmt: skip
    return found | _planned(request, perturbing, benign)


def planned_later_attacks(
    request: ScenarioRequest, sets: Path, given: Mapping[str, PairSet]
) -> dict[str, Attack | None]:  # fmt: skip
    """As :func:`planned_attacks`, of later pairs."""
    found = find_scenario(request.scenario).later_sets(request.dose)
    return dict.fromkeys(found) | _planned(
        request, {name: found[name] for name in _missing(sets, found)}, given.get(LATER)
    )


def _missing(sets: Path, names: Iterable[str]) -> list[str]:
    return [name for name in names if not (sets / name / MANIFEST_NAME).exists()]


def _planned(request: ScenarioRequest, attacks: Mapping[str, Attack], benign: PairSet) -> Mapping[str, Attack]:
    for name, attack in attacks.items():
        try:
            attack.plan(benign)
        except ValueError as error:
            raise ValueError(f"{request.scenario} cannot make {name}: {error}") from error
    return attacks


def made_set(attack: Attack | None, benign: PairSet, folder: Path, known_benign: bool) -> PairSet:
    """The set that an attack makes; one that lies there is of the same request, since the scenario's folder is."""
    if attack is not None:
        folder.parent.mkdir(exist_ok=True)
        attack.apply(benign, folder, known_benign=known_benign)
    # What a kill right after the set was finished left behind.
    shutil.rmtree(folder / WORKING, ignore_errors=True)
    return PairSet.load(folder)
