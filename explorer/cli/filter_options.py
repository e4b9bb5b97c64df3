"""Options that give a filter: by its score and cut, from a file, or by the name that it was saved under."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from explorer.defence.held_out import AS_CUT
from explorer.defence.recipe import RANK, ScoreFilter, read_recipe
from explorer.defence.scores import USER
from explorer.defence.users_scores import joined_scores
from explorer.studies.filtering import read_recipe_file, saved_filter

if TYPE_CHECKING:
    from explorer.defence.filter_files import ScoredPairs
    from explorer.defence.recipe import Filter
    from explorer.studies.study import Study


@dataclass(frozen=True, kw_only=True)
class FilterOptions:
    """What ``explorer study filter`` is asked for."""

    score: str | None = None
    """Score to cut by; without any filter, all scores are listed."""
    remove: str | None = None
    """lowest or highest: the suspicious end. Default: the score's own."""
    threshold: float | None = None
    """Remove everything beyond it; the threshold stays."""
    budget: float | None = None
    """Remove at most this share of the pairs, 0 to 1."""
    rank: int | None = None
    """Remove so many pairs, the most suspicious ones."""
    quota: float | None = None
    """Of no concept remove more than this share of its pairs, 0 to 1."""
    recipe: Path | None = None
    """Filter as a JSON file, instead of the options above."""
    saved: Annotated[str | None, typer.Option("--filter")] = None
    """Filter that was saved in the study, by name."""
    scores: Path | None = None
    """Your own scores: a .parquet file with uid and --column."""
    column: list[str] | None = None
    """Column of --scores; its score is user:COLUMN. May be repeated."""
    choose: str | None = None
    """f1, half-the-poison or cut: find the threshold on one half of the pairs, and grade it on the other."""
    half_seed: int = 0
    """Decides the halves of --choose."""

    def with_own_scores(self, pairs: ScoredPairs) -> ScoredPairs:
        """``pairs`` with the scores that were brought along.

        Raises:
            ValueError: if a file is given without columns, a score is known of no pair, or as
                :func:`~explorer.defence.users_scores.joined_scores`.
        """
        import pandas

        if (self.scores is None) != (not self.column):
            raise ValueError("expected --scores FILE and --column NAME together, or neither of them")
        if self.scores is None:
            return pairs
        brought = joined_scores(self.scores, self.column, pandas.Series(pairs.uids))
        if unknown := [name for name, values in brought.items() if np.isnan(values).all()]:
            raise ValueError(
                f"{self.scores} gives {unknown[0]} of none of the {len(pairs)} pairs: expected uids such as "
                f"{pairs.uids[0]!r}"
            )
        return replace(pairs, brought={f"{USER}{name}": values for name, values in brought.items()})

    def chosen(self, study: Study, pairs: ScoredPairs) -> Filter | None:
        """The filter that the options give; None where they give none.

        Raises:
            ValueError: naming what does not go together, or what is wrong with a recipe.
        """
        if sum(given is not None for given in (self.score, self.recipe, self.saved)) > 1:
            raise ValueError("expected one of --score, --recipe and --filter")
        if self.score is not None:
            return self._of_score(pairs)
        if self._cut() or self.remove is not None or self.quota is not None:
            raise ValueError("a cut is given without --score: expected the score that is cut")
        if self.recipe is None and self.saved is None:
            if self.choose is not None:
                raise ValueError("--choose is given without a filter: expected --score, --recipe or --filter")
            return None
        chosen = read_recipe_file(self.recipe) if self.recipe is not None else saved_filter(study, self.saved)
        if self.choose is not None and not isinstance(chosen, ScoreFilter):
            raise ValueError("--choose finds one threshold: expected a filter of one score")
        return chosen

    def _cut(self) -> dict[str, float]:
        cuts = {"threshold": self.threshold, "budget": self.budget, "rank": self.rank}
        return {kind: amount for kind, amount in cuts.items() if amount is not None}

    def _of_score(self, pairs: ScoredPairs) -> Filter:
        cut, finds = self._cut(), self.choose not in (None, AS_CUT)
        if len(cut) != (0 if finds else 1):
            expected = f"none of them, since --choose {self.choose} finds the cut" if finds else "one of them"
            raise ValueError(f"of --threshold, --budget and --rank {len(cut)} are given: expected {expected}")
        end = self.remove or pairs.describe(self.score)["remove"]
        return read_recipe({"score": self.score, "remove": end, "cut": cut or {RANK: 0}, "quota": self.quota})
