"""What can be asked for: the embedded world's models by a named recipe, whole or in stages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from explorer.checkpoints.placement import check_place
from explorer.core.progress import OnProgress, unheard
from explorer.core.provenance import ROOT
from explorer.scenarios.recipes import Recipe, find_recipe

STAGES = {
    "everything": "everything", "autoencoder": "autoencoder", "extractor": "extractor", "base": "base", "sets": "sets",
    "fine-tuning": "all_fine_tuned", "remainder": "remainder",
}  # fmt: skip
"""Stage -> the method of ``WorldBuild`` that makes it."""


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """A build of the embedded world's models.

    Raises:
        ValueError: on an unknown recipe or stage, or a C_P that the recipe has not.
    """

    recipe: str
    """``cpu`` or ``full``."""
    run: Path | None = None
    """Folder of the training state; without it under runs."""
    output: Path | None = None
    """Folder of the finished models; without it RUN/models."""
    stage: str = "everything"
    """``everything``, or one of ``autoencoder``, ``extractor``, ``base``, ``sets``, ``fine-tuning``, ``remainder``."""
    adopt: Path | None = None
    """Finished models whose encoders and base are taken instead of training them."""
    seed: int = 0
    """Added to the recipe's: other pairs, poison and noise."""
    rank_rotation: int = 0
    """Moves the nouns' ranks in the fine-tuning sets; half of the nouns: the halves change places."""
    poisoned_concepts: list[int] | None = None
    """C_P of a poisoned model to make, one of the recipe's; may be repeated; default: all of them."""
    device: str = "cpu"
    """``cpu`` or ``cuda``."""

    def __post_init__(self) -> None:
        known = find_recipe(self.recipe).poisoned_concept_counts
        if unknown := sorted(set(self.poisoned_concepts or ()) - set(known)):
            raise ValueError(f"poisoned_concepts is {unknown[0]}: expected one of {', '.join(map(str, known))}")
        if self.stage not in STAGES:
            raise ValueError(f"stage {self.stage!r} is unknown: expected one of {sorted(STAGES)}")

    @property
    def variant(self) -> Recipe:
        """The recipe with other data, poison, noise and ranks, as asked for."""
        varied = find_recipe(self.recipe).variant(seed=self.seed, rank_rotation=self.rank_rotation)
        wanted = self.poisoned_concepts or varied.poisoned_concept_counts
        return replace(varied, poisoned_concept_counts=tuple(sorted(set(wanted))))

    @property
    def run_folder(self) -> Path:
        """Where the training state goes; a variant's own where no folder is named."""
        varied = [f"seed{self.seed}", f"rotation{self.rank_rotation}"] if self.seed or self.rank_rotation else []
        return self.run or ROOT / "runs" / "-".join([self.recipe, *varied])


def carry_out(request: BuildRequest, on_progress: OnProgress = unheard) -> dict[str, Any]:
    """Make what is asked for; returns what was made of what, and where.

    Raises:
        ValueError: if the device is not there, the rotation is impossible, or as :class:`WorldBuild`.
    """
    from explorer.scenarios.build import WorldBuild

    check_place(request.device, None)
    recipe, run = request.variant, request.run_folder
    recipe.fine_tuning_world()  # refuses an impossible rotation now, not after the base was trained
    output = request.output or run / "models"
    build = WorldBuild(recipe=recipe, run=run, output=output, device=request.device, on_progress=on_progress)
    if request.adopt is not None:
        build.adopt(request.adopt)
    getattr(build, STAGES[request.stage])()
    asked = {name: getattr(request, name) for name in ("recipe", "seed", "rank_rotation", "stage")}
    return {**asked, "run": str(run), "output": str(output)}
