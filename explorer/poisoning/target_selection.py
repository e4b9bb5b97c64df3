"""Which target t to give each poisoned concept p, so that the poison raises Alignment Difficulty most at a given
detectability.

Ding et al. (2024), section 7, name source-target selection that raises AD, yet resists filters, as future work. A pair
(caption of p, picture of t) adds alpha * D_img:txt + (1 - alpha) * D_s to AD (their Eq. 4); what a filter by CLIP
alignment sees of it is its cosine. Both are estimated here for every p and t from samples of their captions and
pictures against a sample of the set, as means over the pairs that the poison would make.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from explorer.poisoning.target_choice import CHOICES, DIFFICULTY, NEAREST, RANDOM


@dataclass(frozen=True, kw_only=True)
class TargetScores:
    """What poison of concept p with target t would be, each fp32 ``[P, T]``."""

    alignment: torch.Tensor
    """Mean cosine of its pairs, in [-1, 1]: what a filter by CLIP alignment sees."""
    feature: torch.Tensor
    """Mean D_img:txt of its pairs, in [0, 1]."""
    structure: torch.Tensor
    """Mean D_s of its pairs against the sample of the set, in [0, 2]."""

    def difficulty(self, alpha: float) -> torch.Tensor:
        """Mean AD(x, y) of its pairs (Eq. 4), ``[P, T]``."""
        return alpha * self.feature + (1 - alpha) * self.structure


def score_targets(
    captions: torch.Tensor,
    pictures: torch.Tensor,
    image: torch.Tensor,
    text: torch.Tensor,
    feature_range: tuple[float, float],
) -> TargetScores:
    """Every concept with every target.

    Args:
        captions: unit features ``[P, S, d]`` of S captions of each concept.
        pictures: unit features ``[T, S, d]`` of S pictures of each target.
        image: unit features ``[n, d]`` of the pictures of a sample of the set.
        text: unit features ``[n, d]`` of their captions.
        feature_range: cosines of feature distance 1 and 0.
    """
    low, high = feature_range
    seen = pictures @ image.T  # [T, S, n]
    alignment, feature, structure = [], [], []
    for said in captions:
        cosines = (pictures * said).sum(-1)
        alignment.append(cosines.mean(-1))
        feature.append((1 - ((cosines - low) / (high - low)).clamp(0, 1)).mean(-1))
        structure.append((seen - said @ text.T).abs().mean((-2, -1)))
    return TargetScores(
        alignment=torch.stack(alignment), feature=torch.stack(feature), structure=torch.stack(structure)
    )


def choose_targets(
    scores: TargetScores,
    concepts: Sequence[str],
    targets: Sequence[str],
    *,
    how: str,
    least_alignment: float | None,
    alpha: float,
    seed: int,
) -> dict[str, str]:
    """``{p: t}``: for each concept, of the targets other than itself whose pairs align at least so well, the one that

    - raises AD most (``difficulty``),
    - aligns best (``nearest``), or
    - is drawn (``random``).

    Args:
        least_alignment: mean cosine that pairs must reach; the lower, the easier a filter finds them. None: for each
            concept the median of its targets, so that the better half is allowed.

    Raises:
        ValueError: if ``how`` is none of these, or a concept has no such target; the message names the best it has.
    """
    if how not in CHOICES:
        raise ValueError(f"how is {how!r}: expected one of {', '.join(CHOICES)}")
    generator = torch.Generator().manual_seed(seed)
    value = {
        DIFFICULTY: lambda: scores.difficulty(alpha),
        NEAREST: lambda: scores.alignment,
        RANDOM: lambda: torch.rand(scores.alignment.shape, generator=generator),
    }[how]()
    other = torch.tensor([[p != t for t in targets] for p in concepts])
    least = torch.full((len(concepts), 1), least_alignment or 0.0)
    if least_alignment is None:
        least = scores.alignment.masked_fill(~other, torch.nan).nanmedian(1, keepdim=True).values
    allowed = other & (scores.alignment >= least)
    if (without := (~allowed.any(1)).nonzero()[:, 0]).numel():
        row = int(without[0])
        best = scores.alignment[row][other[row]].max().item()
        raise ValueError(
            f"no target's pictures align with captions of {concepts[row]!r} by {float(least[row]):.3f} or more: the "
            f"best of {len(targets)} reaches {best:.3f}"
        )
    chosen = value.masked_fill(~allowed, -torch.inf).argmax(1).tolist()
    return {p: targets[place] for p, place in zip(concepts, chosen, strict=True)}
