"""How AD grows with poison: Eq. 2, Eq. 3 and Theorem 4.2 of Ding et al. (CCS 2024), in closed form.

The closed forms hold for well separated concepts: two samples of one concept are at distance 0, of two
concepts at distance 1, in both spaces.
"""

from __future__ import annotations

from dataclasses import dataclass

TARGET_PATTERNS = ("distinct", "shared", "cyclic")
"""Where the images of poison come from: a target of its own for each concept, one target for all, or the next
poisoned concept (p_1 -> p_2 -> ... -> p_1)."""


LARGEST_AD = 2.0
"""Structure disparities of unit vectors, ``|cos_img - cos_txt|``, reach 2, and so does AD at alpha = 0."""


@dataclass(frozen=True, kw_only=True)
class Growth:
    """What poison adds to AD."""

    feature: float
    """Change of feature AD (not weighted)."""
    structure: float
    """Change of structure AD (not weighted)."""
    ad: float
    """alpha * feature + (1 - alpha) * structure."""


def fine_tuning_difficulty(base_ad: float, fine_tuning_ad: float, weight: float) -> float:
    """Eq. 2: AD of fine-tuning a benign model, ``(1 - weight) AD(T0) + weight AD(T)``, 0 < weight < 1.

    Raises:
        ValueError: on another weight, or an AD outside ``0..LARGEST_AD``.
    """
    for name, value in (("base data", base_ad), ("fine-tuning data", fine_tuning_ad)):
        if not 0 <= value <= LARGEST_AD:
            raise ValueError(f"AD of the {name} is {value:g}: expected 0 to {LARGEST_AD:g}")
    if not 0 < weight < 1:
        raise ValueError(f"weight is {weight}: expected 0 < weight < 1")
    return (1 - weight) * base_ad + weight * fine_tuning_ad


def single_concept_growth(
    *,
    poisons: int,
    concept_samples: int,
    target_samples: int,
    total_samples: int,
    alpha: float = 0.8,
    feature_change: float = 1.0,
    structure_change: float = 1.0,
) -> Growth:
    """Eq. 3: the most that replacing ``poisons`` samples of one concept can add to AD.

    Every poison disagrees with the ``concept_samples - poisons`` benign samples of its concept and with the
    ``target_samples`` of its target, in both orders: 2 rho ((n_p + n_t) / N - rho) with rho = poisons / N.

    Args:
        poisons: m_p, poisoned samples of the concept.
        concept_samples: n_p, samples whose text names the concept, poison included.
        target_samples: n_t, benign samples of the target.
        total_samples: N.
        feature_change: the largest rise of D_img:txt a poison brings, in [0, 1].
        structure_change: the largest rise of a pair's structure disparity, in [0, 1].

    Raises:
        ValueError: on counts that do not fit each other; the concept and its target are parts of the set that do not
            overlap.
    """
    _check_counts(poisons, concept_samples, target_samples, total_samples)
    _check_room(concept_samples + target_samples, total_samples, "the concept and its target")
    ratio = poisons / total_samples
    feature = ratio * feature_change
    structure = 2 * ratio * ((concept_samples + target_samples) / total_samples - ratio) * structure_change
    return Growth(feature=feature, structure=structure, ad=alpha * feature + (1 - alpha) * structure)


def theorem_growth(
    *,
    concepts: int,
    poisons: int,
    concept_samples: int,
    total_samples: int,
    targets: str = "distinct",
    target_samples: int | None = None,
    alpha: float = 0.8,
) -> Growth:
    """Theorem 4.2: what AD gains when ``poisons`` samples of each of ``concepts`` concepts are replaced.

    Structure gain times N^2, with n = concept_samples, n_t = target_samples, m = poisons, C = concepts:
    distinct targets ``2 C m (n - m + n_t)``; a shared target ``m^2 C (C - 1)`` more; cyclic targets, which
    gain least, ``4 C m (n - m)``.

    Args:
        targets: one of ``TARGET_PATTERNS``; the distinct and shared targets are unpoisoned.
        target_samples: benign samples of a target; None: as many as a concept has. Not used by cyclic
            targets.

    Raises:
        ValueError: on counts that do not fit each other. Concepts and unpoisoned targets are parts of the set that do
            not overlap: distinct targets need ``C (n + n_t)`` samples, a shared one ``C n + n_t``, cyclic ones ``C n``.
    """
    if targets not in TARGET_PATTERNS:
        raise ValueError(f"targets is {targets!r}: expected one of {', '.join(TARGET_PATTERNS)}")
    if targets == "cyclic" and concepts == 1:
        raise ValueError("cyclic targets of 1 concept would be the concept itself: expected at least 2 concepts")
    target_samples = concept_samples if target_samples is None else target_samples
    _check_counts(poisons, concept_samples, target_samples, total_samples)
    if concepts < 0:
        raise ValueError(f"{concepts} concepts: expected at least 0")
    of_targets = {"distinct": concepts, "shared": min(concepts, 1), "cyclic": 0}[targets]
    needed = concepts * concept_samples + of_targets * target_samples
    _check_room(needed, total_samples, f"{concepts} concepts and {of_targets} targets beside them")
    if targets == "cyclic":
        disagreements = 4 * concepts * poisons * (concept_samples - poisons)
    else:
        disagreements = 2 * concepts * poisons * (concept_samples - poisons + target_samples)
    if targets == "shared":
        disagreements += poisons**2 * concepts * (concepts - 1)
    feature = concepts * poisons / total_samples
    structure = disagreements / total_samples**2
    return Growth(feature=feature, structure=structure, ad=alpha * feature + (1 - alpha) * structure)


def _check_counts(poisons: int, concept_samples: int, target_samples: int, total_samples: int) -> None:
    if not 0 <= poisons <= concept_samples <= total_samples:
        raise ValueError(
            f"got {poisons} poisons of {concept_samples} samples of a concept in a set of {total_samples}: "
            "expected 0 <= poisons <= concept samples <= total"
        )
    if not 0 <= target_samples <= total_samples:
        raise ValueError(f"got {target_samples} target samples in a set of {total_samples}: expected a part of it")
    if total_samples < 1:
        raise ValueError(f"the set has {total_samples} samples: expected at least 1")


def _check_room(needed: int, total_samples: int, what: str) -> None:
    if needed > total_samples:
        raise ValueError(f"{what} have {needed:,} samples: expected at most the set's {total_samples:,}")
