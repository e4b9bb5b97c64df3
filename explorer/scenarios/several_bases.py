"""One named scenario on several bases, as Table 3 of Ding et al. (2024) compares SD 1.5, SD 2.1 and SDXL: whether they
differ in U-Net, autoencoder or text encoder, or in a decoder alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.core.progress import OnProgress, note, unheard
from explorer.core.unique_names import unique_names
from explorer.scenarios.experiment import SETS, carry_out_scenario, check_scenario
from explorer.scenarios.named import find_scenario
from explorer.studies.study import Study

if TYPE_CHECKING:
    from explorer.scenarios.experiment_request import ScenarioRequest
    from explorer.studies.specs import ExtractorSpec
    from explorer.training.recipes import FineTuningRecipe

BASES = "bases"
"""In the scenario's folder, a folder for every further base, laid out like it."""


@dataclass(frozen=True, kw_only=True)
class FurtherBase:
    """A checkpoint that the same scenario is carried out on, too."""

    path: Path
    recipe: FineTuningRecipe


def carry_out_on_bases(
    request: ScenarioRequest, recipe: FineTuningRecipe, further: Sequence[FurtherBase], extractor: ExtractorSpec,
    on_progress: OnProgress = unheard,
) -> dict[str, Any]:  # fmt: skip
    """The scenario on its base and on each further one, of the same pairs, poison and noises; the first base's study
    names the others' then, so that ``explorer results`` and Implosion show Table 3 of them.

    Clean-label poison is made for each base, whose autoencoder it misleads; sets of other poison are made once.

    Returns:
        As :func:`~explorer.scenarios.experiment.carry_out_scenario` of the first base; under ``bases`` the same of each
        further one by its name, where there are any.

    Raises:
        ValueError: if a base cannot be fine-tuned by its recipe, before any work; or as ``carry_out_scenario``.
    """
    names = unique_names([each.path.absolute() for each in further])
    there = {name: replace(request, base=each.path, folder=request.folder / BASES / name)
             for name, each in zip(names, further, strict=True)}  # fmt: skip
    recipes = {name: each.recipe for name, each in zip(names, further, strict=True)}
    check_scenario(request, recipe, extractor)
    for name, other in there.items():
        check_scenario(other, recipes[name], extractor)
    made = carry_out_scenario(request, recipe, extractor, on_progress)
    sets = None if find_scenario(request.scenario).clean_label(request.dose) else request.folder / SETS
    others = {}
    for name, other in there.items():
        on_progress(note(f"{name}: base {len(others) + 2} of {1 + len(further)}"))
        other.folder.parent.mkdir(exist_ok=True)
        others[name] = carry_out_scenario(other, recipes[name], extractor, on_progress, sets=sets)
    _name(
        Study.load(made["study"]),
        {Path(others[name]["study"]): recipes[name].family == recipe.family for name in names},
    )
    return made | ({"bases": others} if others else {})


def _name(study: Study, others: Mapping[Path, bool]) -> None:
    """Write the others into the study's settings: those of its family are other bases of one world, the rest of it
    stands beside it. What a person wrote there stays.

    Args:
        others: of every study whether it is of the same family.
    """
    bases = [path for path, alike in others.items() if alike]
    beside = [path for path, alike in others.items() if not alike]
    named = replace(study, beside=_joined(study.beside, beside), other_bases=_joined(study.other_bases, bases))
    if named != study:
        named.write()


def _joined(known: Iterable[Path], found: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(path.resolve() for path in (*known, *found)))
