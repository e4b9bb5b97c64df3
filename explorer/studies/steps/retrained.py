"""What models draw that were trained again, on what a filter leaves or from a poisoned model, beside the arm's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from explorer.core.poison_record import poisoned_from
from explorer.core.provenance import hash_file, hash_json, write_json
from explorer.defence.outcomes import Groups, differences, shares, top_one
from explorer.defence.payload_formats import RETRAINED as FORMAT
from explorer.evaluation.config import EvaluationConfig
from explorer.evaluation.judge import ConceptJudge
from explorer.evaluation.summary import groups_of
from explorer.pairs.concept_list import POOL, ConceptList
from explorer.studies.extractors import load_extractor
from explorer.studies.gone_models import STRIP_NAME, can_stay, gone_models, strip_row
from explorer.studies.inputs import StudyInputs
from explorer.studies.recorded import Recorded, differing_names, named
from explorer.studies.results import PICTURES, RETRAINED, command_line, step_folder, writing_step
from explorer.studies.retraining import FOLDER, RECOVERY, RetrainedModel, retrained_models
from explorer.studies.showcase import strip_concepts
from explorer.studies.steps.drawing import PICTURE, concepts_spared, drawing_settings
from explorer.studies.steps.step import Step, StepWork
from explorer.studies.study import Arm

if TYPE_CHECKING:
    from explorer.checkpoints.registry import Checkpoint
    from explorer.core.poison_record import PoisonRecord

STRIP_CONCEPTS, TILE = 12, 64
DECISIVE = ("steps", "batch_size", "learning_rate", "schedule")
"""Of a training: models that differ in one of them are not set beside one another."""
OF_ARMS = "arms"
"""Folder of the pictures by the arms' own models, beside one for each arm's retrained ones."""


def _asked(inputs: StudyInputs) -> ConceptList:
    """What models are asked that were trained on what a filter leaves: all concepts, or those alone outside the pool
    that no poison aims at.

    Raises:
        ValueError: as :func:`~explorer.studies.steps.drawing.concepts_spared`.
    """
    if not inputs.study.retrained.unpoisoned_only:
        return inputs.concepts
    return inputs.concepts.chosen(concepts_spared(inputs))


def _settings(inputs: StudyInputs) -> dict[str, Any]:
    seeds = inputs.study.retrained.seeds or inputs.study.seeds
    return {"seeds": list(seeds), "concepts": hash_json(_asked(inputs).names), **drawing_settings(inputs)}


def _shared(inputs: StudyInputs) -> dict[str, str]:
    """Concepts, judge, and the control that the models are compared with."""
    control = inputs.study.control
    return inputs.of_concepts | inputs.of_extractor | ({} if control is None else {
        "control": next(iter(inputs.of_checkpoint(control).values()))})  # fmt: skip


def _of_arm(inputs: StudyInputs, arm: Arm) -> dict[str, str]:
    """Its own model and those that were trained again."""
    models = retrained_models(inputs.study).get(arm.name, ())
    gone = gone_models(inputs.study, arm.name, models)
    if gone and not can_stay(inputs, arm, models, _settings(inputs), _shared(inputs)):
        raise ValueError(
            f"the retrained models {', '.join(each['name'] for each in gone)} were measured and are not on this "
            f"machine; to measure without them, delete {step_folder(inputs.study, RETRAINED)}"
        )
    if not models:
        raise ValueError(
            "no model was trained again on what a filter leaves of its pairs: "
            f"`{command_line('retrain', inputs.study.folder, arm.name, '--recipe', 'FILE')}`"
        )
    records = {each.name: hash_file(each.folder.with_name(f"{each.name}.json")) for each in models}
    records |= {each["name"]: hash_json(each) for each in gone}
    return inputs.of_model(arm) | {named("retrained models", arm.name): hash_json(records)}


def _count(inputs: StudyInputs, arm: Arm) -> int:
    models = retrained_models(inputs.study).get(arm.name, ())
    recovered = sum(_recovered(model) for model in models)
    asked, every = len(_asked(inputs).names), len(inputs.concepts.names)
    concepts = (len(models) - recovered) * asked + recovered * every + (every if recovered else asked)
    return concepts * len(_settings(inputs)["seeds"])


def _recovered(model: RetrainedModel) -> bool:
    return model.record["kind"] == RECOVERY


def _make(work: StepWork) -> None:
    concepts = _asked(work.inputs)
    with writing_step(
        work.study, RETRAINED, settings=work.settings, inputs=work.inputs_of(work.arms), work=(cost := {})
    ) as folder:  # fmt: skip
        models = retrained_models(work.study)
        drawn = _Drawn(work, concepts, any(_recovered(each) for name in work.arms for each in models[name]))
        gone = {name: gone_models(work.study, name, models[name]) for name in work.arms}
        control = work.study.control
        poison = {name: work.inputs.checkpoint(work.arm(name)).poison for name in work.arms}
        most = max(poison.values(), key=lambda record: record.order)
        described = None if control is None else drawn.described(work.inputs.checkpoint(control), OF_ARMS, most)
        arms = {name: _arm(drawn, work, name, models[name], gone[name], poison[name]) for name in work.arms}
        payload = FORMAT.written(
            concepts=[{"concept": each.name, "group": each.group} for each in drawn.strip_list.concepts],
            drawn=list(concepts.names), seeds=work.settings["seeds"], tile=TILE, control=described, arms=arms,
            interval="95 % t-interval over concepts",
        )  # fmt: skip
        write_json(folder / FORMAT.name, payload)
        Image.fromarray(np.concatenate(drawn.strip)).save(folder / STRIP_NAME, optimize=True)
        cost |= work.cost(sum(_count(work.inputs, work.arm(name)) for name in work.arms))


def _arm(
    drawn: _Drawn,
    work: StepWork,
    arm: str,
    models: tuple[RetrainedModel, ...],
    gone: list[dict[str, Any]],
    poison: PoisonRecord,
) -> dict[str, Any]:
    """The arm's own model, and those that were trained again: filtered ones and recoveries. Of those that are ``gone``
    stays what was measured."""
    own = drawn.described(work.inputs.checkpoint(work.arm(arm)), OF_ARMS, poison)
    found: dict[str, list[dict[str, Any]]] = {"models": [], "recovery": []}
    for model in models:
        told = drawn.described(model.checkpoint, f"models/{arm}", poison, recovered=_recovered(model))
        record = {name: value for name, value in model.record.items() if name != "manifest"}
        record["training"] = _training(model.checkpoint)
        found["recovery" if _recovered(model) else "models"].append({"name": model.name, **record, **told})
    for entry in gone:
        found["recovery" if entry["kind"] == RECOVERY else "models"].append(drawn.kept(entry, poison))
    found["models"].sort(key=lambda each: each["name"])
    _compare(found["models"], drawn.known_groups(poison))
    found["recovery"].sort(key=lambda each: each["kept"])
    return {"unfiltered": own, **found}


def _compare(models: list[dict[str, Any]], groups: Groups) -> None:
    """Beside each model the difference to those that were trained alike without as many pairs drawn at random, and to
    those trained alike on all pairs; ``not_compared`` names those that were trained otherwise."""
    for model in models:
        otherwise: list[str] = []
        for name, removed in (("against_random", model["removed"]), ("against_unfiltered", 0)):
            draws = [each for each in models if "random" in each["recipe"] and each["removed"] == removed]
            if any(each is model for each in draws):  # it is one of those that others are compared with
                draws = []
            alike = [each for each in draws if _trained_alike(each, model)]
            model[name] = _difference(model, alike, groups)
            otherwise += [each["name"] for each in draws if not _trained_alike(each, model)]
        model["not_compared"] = list(dict.fromkeys(otherwise))


def _training(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """What decides how a model comes out beside its pairs, as its manifest says; None where that says nothing."""
    phases = checkpoint.config.get("training")
    if not phases:
        return None
    return {name: phases[-1].get(name) for name in DECISIVE} | {"start": checkpoint.config.get("start")}


def _trained_alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """By what is known of both: of models that are gone that were measured by earlier releases, the steps alone."""
    trainings = [each.get("training") for each in (one, other)]
    return one["steps"] == other["steps"] and (None in trainings or trainings[0] == trainings[1])


def _difference(model: dict[str, Any], others: list[dict[str, Any]], groups: Groups) -> dict[str, Any] | None:
    """Of several others, to the mean of what they draw."""
    if not others:
        return None
    names = ", ".join(each["name"] for each in others)
    mean = np.mean([each["per_concept"] for each in others], axis=0)
    told = names if len(others) == 1 else f"the mean of {names}"
    return {"model": told, "top1": differences(np.array(model["per_concept"]), mean, groups)}


class _Drawn:
    """Pictures of every model, drawn once and judged, and the strip that is made of them."""

    def __init__(self, work: StepWork, concepts: ConceptList, recoveries: bool) -> None:
        """``recoveries``: whether there are some, which are compared with an arm's own model and the control."""
        self._work, self._concepts, self._recoveries = work, concepts, recoveries
        inputs = work.inputs
        self._judge = ConceptJudge.of(load_extractor(work.study.extractor, work.device), inputs.concepts)
        self._ever = poisoned_from(inputs.poison.values())
        names = strip_concepts(concepts, inputs.poison.values(), STRIP_CONCEPTS)
        half = STRIP_CONCEPTS // 2
        # Of both groups as many, as far as there are some.
        pool = [name for name in names if concepts.concept(name).group == POOL]
        others = [name for name in names if name not in pool]
        shown = [*pool[: max(half, STRIP_CONCEPTS - len(others))], *others[: max(half, STRIP_CONCEPTS - len(pool))]]
        self.strip_list = concepts.chosen(shown[:STRIP_CONCEPTS])
        self.strip: list[np.ndarray] = []

    def described(
        self, checkpoint: Checkpoint, place: str, poison: PoisonRecord, recovered: bool = False
    ) -> dict[str, Any]:  # fmt: skip
        """Top-1 by group with its intervals, by concept of those that every model is asked for, and where in the strip
        the model's row is.

        Args:
            place: folder that its pictures are kept in, under the checkpoint's name.
            poison: whose groups of concepts are asked about.
            recovered: whether it is a recovery, which is asked for every concept of the study.
        """
        every = recovered or (self._recoveries and place == OF_ARMS)
        concepts = self._work.inputs.concepts if every else self._concepts
        images = self._images(checkpoint, place, concepts)
        asked = np.array([self._work.inputs.concepts.ranks[name] for name in concepts.names])
        hits = [top_one(self._judge.read(each)["similarities"].cpu().numpy(), asked) for each in images]
        values = np.mean(hits, axis=0)
        at = [concepts.ranks[name] for name in self.strip_list.names]
        self.strip.append(np.concatenate([_tile(image) for image in images[0][at]], axis=1))
        rows = [concepts.ranks[name] for name in self._concepts.names]
        return {
            "metrics": {"top1": shares(values, self._groups(poison, concepts))},
            "per_concept": values[rows].round(4).tolist(),
            "strip_row": len(self.strip) - 1,
        }

    def known_groups(self, poison: PoisonRecord) -> Groups:
        """The groups of the concepts that every model is asked for."""
        return self._groups(poison, self._concepts)

    def _groups(self, poison: PoisonRecord, concepts: ConceptList) -> Groups:
        """The groups of ``concepts``: a part of the study's says nothing of all of them."""
        whole = len(concepts.names) == len(self._work.inputs.concepts.names)
        return groups_of(poison, concepts, self._ever) | ({} if whole else {"all": None})

    def kept(self, entry: dict[str, Any], poison: PoisonRecord) -> dict[str, Any]:
        """As :meth:`described`, of a model that is gone: what was measured of it, and its row of the strip."""
        groups = self.known_groups(poison)
        top_ones = entry["metrics"]["top1"]
        if entry["kind"] != RECOVERY:  # which was asked for all concepts
            top_ones = {name: None if groups[name] is None else share for name, share in top_ones.items()}
        self.strip.append(strip_row(self._work.study, entry["strip_row"], TILE))
        return entry | {"metrics": {"top1": top_ones}, "strip_row": len(self.strip) - 1}

    def _images(self, checkpoint: Checkpoint, place: str, concepts: ConceptList) -> np.ndarray:
        """uint8 ``[seeds, concepts, H, W, 3]``: of an arm those of the step ``pictures``, where they hold."""
        from explorer.evaluation.drawings import Drawing, draw_missing, seed_folder

        work, settings = self._work, self._work.settings
        pictures = Recorded.read(work.study, PICTURES)
        if place == OF_ARMS and _holds(work, pictures, checkpoint.name):
            rows = [work.inputs.concepts.ranks[name] for name in concepts.names]
            folder = step_folder(work.study, PICTURES)
            kept = [Drawing.load_images(seed_folder(folder, checkpoint.name, seed)) for seed in settings["seeds"]]
            return np.stack([each[rows] for each in kept])
        config = EvaluationConfig(
            seeds=tuple(settings["seeds"]), steps=settings["steps"], guidance_scale=settings["guidance_scale"],
            size=settings["size"], device=work.device, precision=settings["precision"], maps=False,
        )  # fmt: skip
        folder = work.study.folder / FOLDER / "pictures" / place
        places = draw_missing(checkpoint, concepts, config, folder, on_progress=work.on_progress)
        return np.stack([Drawing.load_images(each) for each in places])


def _holds(work: StepWork, pictures: Recorded, arm: str) -> bool:
    """Whether the step ``pictures`` has what is asked for of an arm as it is now."""
    study = work.study
    same = not differing_names(pictures.of_arm(arm), work.inputs.of_checkpoint(study.arm(arm)))
    asked = drawing_settings(work.inputs)
    same &= {name: pictures.settings.get(name) for name in asked} == asked
    return same and pictures.shared == work.inputs.of_concepts and (
        set(work.settings["seeds"]) <= set(pictures.settings.get("seeds", ()))
    )  # fmt: skip


def _tile(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((TILE, TILE), Image.Resampling.BILINEAR))


STEP = Step(
    name=RETRAINED,
    unit=PICTURE,
    settings=_settings,
    shared=_shared,
    of_arm=_of_arm,
    amount=_count,
    make=_make,
)
