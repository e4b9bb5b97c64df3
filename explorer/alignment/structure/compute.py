"""Carry out a plan: structure distances of a set's features, exact or estimated, checked against fp64 rows."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.alignment.structure.plan import StructurePlan, plan_structure
from explorer.checkpoints.reasons import enough_memory
from explorer.core.workers import ALONE, Workers

if TYPE_CHECKING:
    import torch

    from explorer.alignment.difficulty import AlignmentDifficulty, EstimationError
    from explorer.alignment.structure.check import SelfCheck
    from explorer.alignment.structure.distance import FeatureRows, FeatureStatistics
    from explorer.alignment.structure.estimators import StructureEstimate
    from explorer.alignment.structure.plan import StructureRequest
    from explorer.alignment.updates import MeanOffset


@dataclass(frozen=True, kw_only=True, eq=False)
class ComputationRecord:
    """How structure distances came about."""

    plan: StructurePlan
    """What was done and why."""
    check: SelfCheck
    """Some D_s against their definition in fp64."""
    seconds: float
    """Wall-clock time of the sums, without features and check; a stream's includes all but the plan."""
    trusted: int | None = None
    """Rows that landmarks were drawn from, so that D_s is the mean disparity to these; None where to all N."""

    @property
    def estimator_standard_error(self) -> float:
        """Of structure AD against that of all pairs, over draws: 0 where it is exact, NaN where it is undefined."""
        return 0.0

    def report(self) -> dict[str, Any]:
        """What decided the numbers, JSON-serialisable and the same in every run: no timings. An undefined standard
        error is None."""
        plan, error = self.plan, self.estimator_standard_error
        return {
            "estimator": plan.estimator,
            "estimator_standard_error": None if math.isnan(error) else error,
            "samples": plan.samples,
            "trusted_landmarks": self.trusted,
            "estimator_seed": plan.seed,
            "precision": plan.precision,
            "kernel": plan.kernel,
            "device": plan.device,
            "workers": plan.workers,
            **self.check.report(),
        }

    def cost_report(self) -> dict[str, Any]:
        """The plan's reason and what it promised, beside what it took; JSON-serialisable."""
        plan = self.plan.report()
        names = (
            "plan", "block", "estimated_seconds", "estimated_bytes", "operations_per_second",
            "double_operations_per_second",
        )  # fmt: skip
        return {**{name: plan[name] for name in names}, "seconds": self.seconds}


@dataclass(frozen=True, kw_only=True, eq=False)
class StructureComputation(ComputationRecord):
    """Structure distances of N pairs with how they came about."""

    structure_distance: torch.Tensor
    """`[N]` fp64 D_s, on the CPU; its mean is structure AD."""
    centred_distance: torch.Tensor
    """`[N]` fp64 D_s of mean-free features."""
    estimate: StructureEstimate | None
    """Draw and standard errors of an estimate; None for exact."""
    statistics: FeatureStatistics
    """Of the features: found once, since those on disk are read for it twice."""

    @property
    def estimator_standard_error(self) -> float:
        """Of structure AD against that of all pairs, over draws: 0 where it is exact, NaN where it is undefined."""
        return 0.0 if self.estimate is None else self.estimate.standard_error

    @property
    def estimation_error(self) -> EstimationError | None:
        """What estimating adds to AD's standard errors; None where the distances are exact."""
        from explorer.alignment.difficulty import EstimationError

        if self.estimate is None:
            return None
        return EstimationError(standard_error=self.estimate.standard_error, variance=self.estimate.structure_variance)


ad_memory = enough_memory(
    "Alignment Difficulty", "a --budget-memory that is there, another --estimator (landmarks), or --device cpu"
)
"""A decorator of what measures a set."""


@ad_memory
def compute_structure(
    image: FeatureRows,
    text: FeatureRows,
    request: StructureRequest,
    *,
    convention: str = "authors",
    strata: np.ndarray | None = None,
    trusted: np.ndarray | None = None,
    plan: StructurePlan | None = None,
    workers: Workers = ALONE,
) -> StructureComputation:
    """Plan, compute and check the structure distances of N pairs.

    Args:
        image: `[N, d_image]` unit rows, held or on disk; moved to the workers' device.
        text: `[N, d_text]` unit rows.
        request: estimator, precision and budgets.
        convention: ``authors`` or ``halved`` structure distance.
        strata: `[N]` stratum of each pair, for estimator ``stratified``.
        trusted: rows that estimator ``landmarks`` draws from, in 0..N-1; None draws from all.
        plan: where it was decided already (:func:`agreed_plan`); None decides it here.
        workers: the processes that share the work; all get the result.

    Raises:
        ValueError: on rows that are no unit rows, a request that cannot be met, or no strata where they are needed; if
            memory does not suffice.
        ArithmeticError: if the self-check finds more than rounding explains; no number is returned then.
    """
    from explorer.alignment.structure.distance import feature_statistics

    image, text = image.to(workers.device), text.to(workers.device)
    if plan is None:
        plan = agreed_plan(image, text, request, strata=strata, trusted=trusted, workers=workers)
    statistics = feature_statistics(image, text)
    started = time.perf_counter()
    distances, centred, estimate = _carry_out(plan, image, text, statistics, convention, strata, trusted, workers)
    seconds = time.perf_counter() - started
    check = _checked(plan, image, text, distances, estimate, convention, workers)
    return StructureComputation(
        plan=plan, structure_distance=distances, centred_distance=centred, estimate=estimate, check=check,
        seconds=seconds, statistics=statistics, trusted=None if trusted is None else len(trusted),
    )  # fmt: skip


def agreed_plan(
    image: FeatureRows,
    text: FeatureRows,
    request: StructureRequest,
    *,
    strata: np.ndarray | None = None,
    trusted: np.ndarray | None = None,
    streamed: bool = False,
    workers: Workers = ALONE,
) -> StructurePlan:
    """The first process's plan, in every process; no row is read for it.

    Arguments as in :func:`compute_structure` and ``plan_structure``.

    Raises:
        ValueError: on a request that cannot be met, or trusted landmarks under another estimator.
    """
    import torch

    from explorer.alignment.structure.tiles import choose_precision

    _check_device(request, workers)
    if trusted is not None:
        check_takes_landmarks(request)
    precision = choose_precision(image, text, request.precision)

    def decide() -> dict[str, Any]:
        return asdict(plan_structure(
            request, len(image), image.shape[1], text.shape[1], device=torch.device(workers.device),
            precision=precision, workers=workers.count, trusted=None if trusted is None else len(trusted),
            strata=0 if strata is None else len(np.unique(strata)), streamed=streamed,
        ))  # fmt: skip

    return StructurePlan(**workers.agree(decide))


def check_takes_landmarks(request: StructureRequest) -> None:
    """Refuse trusted landmarks under another estimator, which would measure the distance to all rows instead.

    Raises:
        ValueError: naming the estimator.
    """
    if request.estimator != "landmarks":
        raise ValueError(f"landmarks are given and estimator is {request.estimator!r}: expected landmarks")


def compose_structure(
    image: FeatureRows,
    text: FeatureRows,
    feature_distance: torch.Tensor,
    request: StructureRequest,
    *,
    alpha: float,
    convention: str,
    feature_range: tuple[float, float] | None,
    names: Sequence[Any],
    **options: Any,
) -> tuple[AlignmentDifficulty, MeanOffset, StructureComputation]:
    """AD of N pairs from their feature distances `[N]` and the structure distances that ``request`` asks for.

    ``options`` are ``strata``, ``trusted``, ``plan`` and ``workers`` of :func:`compute_structure`; what that refuses is
    refused.

    Args:
        names: what each row is called where it came from, for errors.
    """
    from explorer.alignment.difficulty import compose
    from explorer.alignment.structure.distance import UnusableRowsError
    from explorer.alignment.updates import mean_offset

    try:
        done = compute_structure(image, text, request, convention=convention, **options)
    except UnusableRowsError as error:
        raise error.named(names) from None
    difficulty = compose(
        feature_distance, done.structure_distance, alpha=alpha, convention=convention, feature_range=feature_range,
        places=2 if done.trusted is None else 1, estimation=done.estimation_error,
    )  # fmt: skip
    offset = mean_offset(difficulty, centred_distance=done.centred_distance, statistics=done.statistics)
    return difficulty, offset, done


def check_composition(alpha: float, convention: str) -> None:
    """Refuse before features are computed what would be refused after.

    Raises:
        ValueError: on a weight outside [0, 1] or an unknown convention.
    """
    from explorer.alignment.difficulty import check_alpha
    from explorer.alignment.structure.distance import convention_scale

    check_alpha(alpha)
    convention_scale(convention)


def _check_device(request: StructureRequest, workers: Workers) -> None:
    if workers.device.split(":")[0] != request.device:
        raise ValueError(
            f"device is {request.device!r} and the workers compute on {workers.device!r}: expected the same; "
            "open the worker group with it"
        )


def _carry_out(
    plan: StructurePlan,
    image: FeatureRows,
    text: FeatureRows,
    statistics: FeatureStatistics,
    convention: str,
    strata: np.ndarray | None,
    trusted: np.ndarray | None,
    workers: Workers,
) -> tuple[torch.Tensor, torch.Tensor, StructureEstimate | None]:
    from explorer.alignment.structure import estimators as structure_estimators
    from explorer.alignment.structure.tiles import structure_and_centred_row_sums

    common = {"convention": convention, "precision": plan.precision, "share": workers.share, "statistics": statistics}
    if plan.estimator == "exact":
        sums = structure_and_centred_row_sums(image, text, block=plan.block, kernel=plan.kernel, **common)
        return sums[0] / len(image), sums[1] / len(image), None
    if plan.estimator == "stratified":
        if strata is None:
            raise ValueError("estimator is 'stratified' and there are no strata: expected one for each pair")
        common["strata"] = strata
    if plan.estimator == "landmarks":
        common["trusted"] = trusted
    estimators = {
        "landmarks": structure_estimators.landmark_estimate,
        "rows": structure_estimators.row_estimate,
        "stratified": structure_estimators.stratified_estimate,
    }
    estimate = estimators[plan.estimator](image, text, plan.samples, seed=plan.seed, **common)
    return estimate.structure_distance, estimate.centred_distance, estimate


def _checked(
    plan: StructurePlan,
    image: FeatureRows,
    text: FeatureRows,
    distances: torch.Tensor,
    estimate: StructureEstimate | None,
    convention: str,
    workers: Workers,
) -> SelfCheck:
    """The first process's self-check, in every process."""
    import torch

    from explorer.alignment.structure.check import SelfCheck, check_against_fp64

    rows = torch.arange(len(image)) if estimate is None else estimate.drawn
    exact = distances if estimate is None else estimate.drawn_distance

    def check() -> dict[str, Any]:
        return asdict(
            check_against_fp64(
                image, text, rows, exact, precision=plan.precision, convention=convention, seed=plan.seed
            )
        )

    found = workers.agree(check)
    result = SelfCheck(**{**found, "rows": tuple(found["rows"])})
    result.refuse_failed(plan)
    return result
