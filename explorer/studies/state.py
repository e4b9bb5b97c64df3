"""What of a study is done, stale, missing or cannot be done, for every step and arm, and roughly what is left to do.

Cheap: manifests, headers and file dates are read; torch is not imported.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from explorer.studies.inputs import StudyInputs
from explorer.studies.recorded import Recorded, differing_names
from explorer.studies.results import PICTURES, step_command
from explorer.studies.study import Arm, Study

if TYPE_CHECKING:
    from explorer.studies.steps.step import Step

CHANGED = "changed: "
DONE, STALE, MISSING, CANNOT, UNCHECKED = "done", "stale", "missing", "cannot", "unchecked"
"""``unchecked``: results are there, but what they were made from is not, so that nobody can say whether they hold."""


@dataclass(frozen=True, kw_only=True)
class ArmState:
    """One arm of one step."""

    arm: str
    """Name."""
    state: str
    """``done``, ``stale``, ``missing``, ``cannot`` or ``unchecked``."""
    why: str = ""
    """What differs, what is needed, or what is waited for; empty where there is nothing to say."""
    amount: int | None = None
    """Units of work that are left, see the step's ``unit``; None where that is not known or nothing is left."""
    seconds: float | None = None
    """Rough cost of that, by the rate of the last run; None where none was measured."""
    waits: bool = False
    """Whether another step comes first."""


@dataclass(frozen=True, kw_only=True)
class StepState:
    """One step."""

    step: str
    """Name."""
    state: str
    """Of all arms that can be done: what is left to do, if there is anything."""
    why: str
    """Of the step as a whole, as in :class:`ArmState`; where arms lack different things, one of these."""
    unit: str
    """What ``amount`` counts, in the singular."""
    command: str
    """That does what is missing or stale."""
    arms: tuple[ArmState, ...]
    """In the study's order."""

    @property
    def seconds(self) -> float | None:
        """Rough cost of what is left of all arms; None where no rate was measured."""
        known = [arm.seconds for arm in self.arms if arm.seconds is not None]
        return sum(known) if known else None

    @property
    def amount(self) -> int:
        """Units that are left, of the arms of which it is known."""
        return sum(arm.amount or 0 for arm in self.arms)

    def of(self, arm: str) -> ArmState:
        """An arm's state."""
        return next(each for each in self.arms if each.arm == arm)

    def as_json(self) -> dict[str, Any]:
        """JSON-serialisable."""
        return asdict(self) | {"seconds": self.seconds, "amount": self.amount}


def study_state(study: Study, precision: str | None = None) -> tuple[StepState, ...]:
    """The state of every step, in the order in which they are made.

    Args:
        precision: as :class:`~explorer.studies.inputs.StudyInputs` takes it.
    """
    from explorer.studies.steps.listed import STEPS_BY_NAME

    inputs, found = StudyInputs(study, precision), {}
    for step in STEPS_BY_NAME.values():
        waits = step.after is not None and step.waits(inputs)
        found[step.name] = step_state(step, inputs, found[step.after] if waits else None)
    return tuple(found.values())


def why_stale(state: StepState) -> str:
    """What differs from the study as it is now; what differs for several arms is said once, and nothing where
    nothing is known to."""
    arms: dict[str, list[str]] = {}
    for arm in state.arms:
        if arm.state == STALE or arm.why.startswith(CHANGED):
            why = arm.why if arm.state == STALE else arm.why.partition("; ")[0]  # what it lacks is another matter
            arms.setdefault(why.replace(f" of {arm.arm}", ""), []).append(arm.arm)
    told = state.why if state.state == STALE else ""
    return told or "; ".join(f"{', '.join(names)} {why}".strip() for why, names in arms.items())


def stale_steps(study: Study) -> dict[str, str]:
    """Steps whose results are known to be of other models, pairs or settings than the study has, to what differs."""
    told = {state.step: why_stale(state) for state in study_state(study)}
    return {step: why for step, why in told.items() if why}


def step_state(step: Step, inputs: StudyInputs, before: StepState | None) -> StepState:
    """The state of one step.

    Args:
        before: of the step that it comes after.
    """
    study = inputs.study
    recorded = Recorded.read(study, step.name)
    settings, shared, obstacle = [], [], ""
    try:
        settings = differing_names(recorded.settings, step.settings(inputs))
        shared = differing_names(recorded.shared, step.shared(inputs))
    except (ValueError, OSError) as error:
        obstacle = str(error)
    arms = [_arm_state(step, inputs, arm, recorded, (settings, shared), obstacle, before) for arm in study.arms]
    gone = sorted(recorded.arms - {arm.name for arm in study.arms})
    state, why = _of_all(arms, obstacle, gone)
    return StepState(
        step=step.name, state=state, why=why, unit=step.unit, command=step_command(study, step.name),
        arms=tuple(arms),
    )  # fmt: skip


def _arm_state(
    step: Step, inputs: StudyInputs, arm: Arm, recorded: Recorded, changes: tuple[list[str], list[str]], obstacle: str,
    before: StepState | None,
) -> ArmState:  # fmt: skip
    """``changes``: of settings, and of what all arms share."""
    there, missing = arm.name in recorded.arms, obstacle
    try:
        own = step.of_arm(inputs, arm)
    except (ValueError, OSError) as error:
        missing = str(error)
    if missing:  # other settings are said, though nothing can be made anew
        told = [_changed(changes[0])] if there and changes[0] else []
        return ArmState(arm=arm.name, state=UNCHECKED if there else CANNOT, why="; ".join([*told, missing]))
    differing = [*changes[0], *changes[1], *differing_names(recorded.of_arm(arm.name), own)]
    if there and not differing:
        return ArmState(arm=arm.name, state=DONE)
    amount = step.amount(inputs, arm)
    rate = _rate(inputs.study, step, recorded)
    left = ArmState(
        arm=arm.name, state=STALE if there else MISSING, why=_changed(differing) if there else "",
        amount=amount, seconds=None if rate is None or amount is None else rate * amount,
    )  # fmt: skip
    if before is None or before.of(arm.name).state in (DONE, UNCHECKED):
        return left
    if before.of(arm.name).state == CANNOT:
        return ArmState(arm=arm.name, state=CANNOT, why=before.of(arm.name).why)
    return replace(left, why="; ".join([*filter(None, [left.why]), f"its {step.after} come first"]), waits=True)


def _changed(names: list[str]) -> str:
    return f"{CHANGED}{', '.join(names)}"


def _rate(study: Study, step: Step, recorded: Recorded) -> float | None:
    """Seconds a unit: as the step took last time, else, where it draws, as another step that draws did."""
    from explorer.studies.steps.listed import STEPS_BY_NAME

    if recorded.seconds_a_unit is not None or step.unit != STEPS_BY_NAME[PICTURES].unit:
        return recorded.seconds_a_unit
    others = (Recorded.read(study, each.name) for each in STEPS_BY_NAME.values() if each.unit == step.unit)
    return next((each.seconds_a_unit for each in others if each.seconds_a_unit is not None), None)


def _of_all(arms: list[ArmState], obstacle: str, gone: list[str]) -> tuple[str, str]:
    if gone:
        return STALE, f"made of {', '.join(gone)} as well, no arm of the study"
    if not arms:
        return CANNOT, "the study has no arm: expected a table [[arm]] in study.toml for each"
    states = {arm.state for arm in arms}
    for state in (STALE, MISSING, UNCHECKED, DONE):
        if state in states:
            return state, obstacle if state == UNCHECKED else ""
    return CANNOT, obstacle or _what_all_lack(arms)


def _what_all_lack(arms: list[ArmState]) -> str:
    """Their reason where it is one; else that of the first for an example, since each arm has its own beside it."""
    if len({arm.why for arm in arms}) > 1:
        return f"each of {len(arms)} arms lacks something, {arms[0].arm} for example: {arms[0].why}"
    return arms[0].why
