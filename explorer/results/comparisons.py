"""Tables 1 to 6 and Figures 2 to 9 of Ding et al. (2024), each with its claim and what a study has of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import Any

from explorer.core.intervals import Estimate, wilson_interval
from explorer.defence.scores import CLIP, STRUCTURE
from explorer.results import paper
from explorer.results.comparison import (
    ABOVE_ZERO,
    BELOW_ONE,
    BELOW_ZERO,
    MOST,
    Comparison,
    Quantity,
    estimate,
    largest_of,
    which,
)
from explorer.results.measured import (
    CLEAN_LABEL,
    DIRTY_LABEL,
    MISLABELLED,
    RELABELLED,
    UNTARGETED,
    Measured,
    class_share,
    clean_class_share,
    correlation_with_difficulty,
    difference,
    share_of,
    structure_difference,
)
from explorer.results.other_bases import other_bases
from explorer.results.over_runs import difference_over_runs, share_over_runs, shares_over_runs
from explorer.results.recovery import recovery
from explorer.results.table_rows import class_rows, model_rows
from explorer.studies.study import Study

HARDLY_CHANGED = (0.9, 1.1)
"""Where accuracy lies, as a share of another model's, that the paper calls the same."""


def compare_with_paper(
    measured: Measured,
    beside: Sequence[tuple[str, Measured]] = (),
    of_this_world: Sequence[tuple[str, Measured]] = (),
) -> list[Comparison]:
    """One comparison for each table and figure that holds results, in the paper's order.

    Args:
        beside: further studies by name, among which other bases are looked for.
        of_this_world: studies by name of other bases that are none of the paper's.
    """
    return [
        single_concept(measured), maps_scatter(measured), concurrent(measured, DIRTY_LABEL),
        concurrent(measured, CLEAN_LABEL), difficulty_orders_all(measured), less_popular(measured),
        two_concepts(measured), other_bases(beside, of_this_world), from_scratch(measured), image_classes(measured),
        classes(measured), recovery(measured), filters(measured),
    ]  # fmt: skip


def compare_study(study: Study, measured: Measured) -> list[Comparison]:
    """The comparisons of a study; what it did not measure, or nothing comparable, comes from the first of the studies
    beside it that did.

    Args:
        measured: what the study itself has stored.

    Raises:
        FileNotFoundError: if a study beside it, or of another base, is missing.
        ValueError: as :meth:`Measured.of`.
    """
    loaded = [Study.load(place) for place in study.beside]
    beside = [(other.name, _with_those_beside(other)) for other in loaded]
    measured = measured.with_models_of([other for _, other in beside])
    bases = [(other.name, Measured.of(other)) for other in map(Study.load, study.other_bases)]
    found = compare_with_paper(measured, [(study.name, measured), *beside], bases)
    for name, other in beside:
        further = {each.name: replace(each, study=name) for each in compare_with_paper(other)}
        found = [further[each.name] if _answers(each) < _answers(further[each.name]) else each for each in found]
    return found


def _with_those_beside(study: Study) -> Measured:
    """What a study measured, and models of the studies that it names itself that share its control."""
    return Measured.of(study).with_models_of([Measured.of(Study.load(place)) for place in study.beside])


def _answers(comparison: Comparison) -> int:
    """0: not measured, 1: measured, but no answer to the paper's claim, 2: measured."""
    return comparison.done and (1 if comparison.differs else 2)


def concurrent(measured: Measured, kind: str) -> Comparison:
    """Table 1: many concepts poisoned at once."""
    models, wider = measured.models(kind), measured.models(kind, further=True)
    found = paper.dirty_label() if kind == DIRTY_LABEL else paper.clean_label()
    control, largest = models[0] if models else None, largest_of(models)
    quantities = [
        Quantity(what=MOST, claim=BELOW_ONE, paper=paper.clean_of_benign(found),
                 over=f"{len(measured.untargeted(control, most)) if most else 0} concepts{which(most, models)}",
                 here=share_of(measured, most, control) if most else None)
        for most in largest or [None]
    ] + [
        Quantity(what="correlation of AD and utility over models", claim=BELOW_ZERO,
                 paper=paper.correlation_with_difficulty(found), over=f"{len(wider)} models",
                 here=correlation_with_difficulty(wider) if largest else None),
    ] + [
        Quantity(what="structure AD at the largest C_P, less the control's", claim=BELOW_ZERO,
                 paper=found[-1]["structure_ad"] - found[0]["structure_ad"], over=f"pairs{which(most, models)}",
                 here=structure_difference(most, control) if most else None)
        for most in largest or [None]
    ]  # fmt: skip
    quantities[len(largest) : len(largest)] = shares_over_runs(measured, kind, paper.clean_of_benign(found))
    return Comparison(
        name=f"Table 1, {kind}", quantities=tuple(quantities),
        about="Many concepts poisoned at once: those that no poison aims at fail too; AD rises, structure AD falls."
        + (f" {paper.paper_table(1)['notes'][0]}" if kind == DIRTY_LABEL else ""),
        missing=measured.lacking(
            f"an arm whose recorded poison is {kind} and aims at several concepts, and a control, evaluated"
        ),
        rows=model_rows(models) if largest else (),
    )  # fmt: skip


def difficulty_orders_all(measured: Measured) -> Comparison:
    """Figure 6: AD and utility over both attacks."""
    both = [*paper.dirty_label(), *paper.clean_label()[1:]]
    models = [*measured.models(DIRTY_LABEL, further=True), *measured.models(CLEAN_LABEL, further=True)[1:]]
    has_both = len(measured.models(DIRTY_LABEL)) > 1 and len(measured.models(CLEAN_LABEL)) > 1
    wanted = "evaluated arms of both attacks, as `scenario both-attacks` makes them"
    if has_both:  # and no correlation all the same
        wanted = "three models or more whose pairs are at hand, and whose AD and utility are not all alike"
    return Comparison(
        name="Figure 6", about="One line of utility against AD holds for dirty-label and clean-label poison alike.",
        quantities=(
            Quantity(what="correlation of AD and utility over models of both attacks", claim=BELOW_ZERO,
                     paper=paper.correlation_with_difficulty(both), over=f"{len(models)} models",
                     here=correlation_with_difficulty(models) if has_both else None),
        ), missing=measured.lacking(wanted),
    )  # fmt: skip


def single_concept(measured: Measured) -> Comparison:
    """Figure 2: one concept poisoned."""
    models = measured.models(DIRTY_LABEL, several=False) + measured.models(CLEAN_LABEL, several=False)[1:]
    one, shown, others = (models[1] if len(models) > 1 else None), None, None
    if one is not None:
        others = share_of(measured, one, models[0])
        if (success := one["poison_success"]["poisoned"]) is not None:
            pictures = len(measured.evaluation["seeds"]) * len(one["poisoned_concepts"])
            shown = wilson_interval(round(success["mean"] * pictures), pictures)
    return Comparison(
        name="Figure 2", about="One concept poisoned: it turns into its target, every other one stays.",
        quantities=(
            Quantity(what="accuracy on other concepts, of the control's", claim=HARDLY_CHANGED, here=others,
                     over="concepts"),
            Quantity(what="pictures of the poisoned concept that show its target", claim=(0.5, 1.0), here=shown,
                     over="pictures" if shown is None else f"{shown.n} pictures"),
        ), missing=measured.lacking("an evaluated arm with one poisoned concept (`poison --target P=T`)"),
    )  # fmt: skip


def maps_scatter(measured: Measured) -> Comparison:
    """Figures 3 and 4: attention maps of concepts that no poison aims at."""
    models = measured.models(DIRTY_LABEL)
    here, over = None, ""
    if len(models) > 1:
        both = [each["late_contiguity"][UNTARGETED] for each in (models[-1], models[0])]
        here, over = difference(*both, measured.noises, len(measured.untargeted(models[0], models[-1])))
        over += which(models[-1], models)
    scattered = "Geary's C of the late steps at the largest C_P, less the control's (scattered noise: 1)"
    return Comparison(
        name="Figures 3 and 4", about="Attention maps of concepts that no poison aims at turn into scattered noise.",
        quantities=(
            Quantity(what=scattered, claim=ABOVE_ZERO, here=here, over=over),
            *difference_over_runs(measured, "late_contiguity_unpoisoned", scattered),
            *share_over_runs(measured, "late_word_mass_unpoisoned",
                             "attention to the concept in the late steps at the largest C_P, of the control's"),
        ), missing=measured.lacking("evaluated arms with several poisoned concepts, with maps"),
    )  # fmt: skip


def less_popular(measured: Measured) -> Comparison:
    """Table 2: a pool of less frequent concepts."""
    printed = {row["pool_ranks"]: row["utility"] for row in paper.rows(2)}
    models = measured.models(DIRTY_LABEL)
    ranked = [model for model in models if measured.poison.get(model["name"]) is not None
              and "pool_ranks" in measured.poison[model["name"]].parameters]  # fmt: skip
    pairs = [(rare, usual) for rare in ranked for usual in models if usual not in ranked
             and usual["poisoned_concept_count"] == rare["poisoned_concept_count"]]  # fmt: skip
    here, names, ranked_models = None, [], []
    if pairs:
        rare, usual = pairs[-1]
        ranks = "-".join(map(str, measured.poison[rare["name"]].parameters["pool_ranks"]))
        ranked_models = [(models[0], "no poison"), (usual, "most frequent"), (rare, ranks)]
        names, here = measured.untargeted(rare, usual), share_of(measured, rare, usual)
    return Comparison(
        name="Table 2", about="Poisoning less popular concepts does others as much damage as poisoning popular ones. "
        + paper.paper_table(2)["notes"][0],
        quantities=(
            Quantity(what="clean accuracy, of what poison of the most popular concepts leaves", claim=HARDLY_CHANGED,
                     paper=printed["1501-2000"] / printed["1-500"], here=here, over=f"{len(names)} concepts"),
        ), missing=measured.lacking(
            "an evaluated arm made with `poison --pool-ranks`, and one of as many concepts without"
        ),
        rows=sum((model_rows([each], pool_ranks=ranks) for each, ranks in ranked_models), ()),
    )  # fmt: skip


def two_concepts(measured: Measured) -> Comparison:
    """Figure 7: prompts with two concepts."""
    models = measured.models(DIRTY_LABEL)
    here, over = None, ""
    if len(models) > 1:
        here, over = difference(models[-1]["word_overlap"], models[0]["word_overlap"], measured.noises, None)
        over += which(models[-1], models)
    alike = "cosine of the two concepts' maps at the largest C_P, less the control's"
    return Comparison(
        name="Figure 7", about="The maps of two concepts of one prompt become alike.",
        quantities=(
            Quantity(what=alike, claim=ABOVE_ZERO, here=here, over=over),
            *difference_over_runs(measured, "word_overlap", alike),
        ), missing="evaluated arms with several poisoned concepts, with maps",
    )  # fmt: skip


def from_scratch(measured: Measured) -> Comparison:
    """Table 4: every model starts from random weights."""
    models = measured.models(DIRTY_LABEL)
    control, most = (models[0], models[-1]) if len(models) > 1 else (None, None)
    scratch = most is not None and all(each.get("from_scratch") for each in (control, most))
    return Comparison(
        name="Table 4", about="Models trained from scratch implode too.",
        missing=measured.lacking("a study whose models were trained with --from-scratch, evaluated"),
        quantities=(
            Quantity(what=MOST, claim=BELOW_ONE, paper=paper.clean_of_benign(paper.rows(4)),
                     here=share_of(measured, most, control) if scratch else None,
                     over=f"{len(measured.untargeted(control, most)) if scratch else 0} concepts{which(most, models)}"),
        ),
        rows=model_rows(models) if scratch else (),
    )  # fmt: skip


def image_classes(measured: Measured) -> Comparison:
    """The half of Table 5 that is of ImageNet: classes that have mislabelled pairs alone, judged by a classifier."""
    control, poisoned = _classified(measured, RELABELLED)
    clean, count = clean_class_share(control, poisoned) if poisoned else (None, 0)
    return Comparison(
        name="Table 5, ImageNet; Figure 8", missing="arms made with `relabel`, a control, and a classifier, evaluated",
        about="ImageNet's classes implode: those that are not poisoned fail, too.",
        quantities=(Quantity(what=MOST, claim=BELOW_ONE, here=clean, over=f"{count} classes",
                             paper=paper.clean_of_benign(_with_clean(paper.rows(5, data="ImageNet")))),),
        rows=class_rows([control, *poisoned]) if poisoned else (),
    )  # fmt: skip


def _classified(measured: Measured, kind: str) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """The control, and by C_P the models of this kind of poison, where a classifier judged them; else None and none."""
    control, *poisoned = measured.models(kind) or [None]
    return (control, poisoned) if control is not None and control.get("classifier_per_concept") else (None, [])


def _with_clean(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in found if row["accuracy"]["clean"] is not None]


def classes(measured: Measured) -> Comparison:
    """Table 5: mislabelled pairs added to classes, judged by a classifier."""
    printed = paper.rows(5, data="CIFAR10")
    control, poisoned = _classified(measured, MISLABELLED)
    clean, count = clean_class_share(control, poisoned) if poisoned else (None, 0)
    wrong = class_share(poisoned[-1], control, sorted(poisoned[-1]["poisoned_concepts"])) if poisoned else None
    return Comparison(
        name="Table 5, CIFAR10", missing="arms made with `mislabel`, a control, and a classifier, evaluated",
        about="Classes to which no mislabelled pairs are added keep .64, .70, .71 and .91 of the control's accuracy at "
        "2, 4, 6 and 8 poisoned classes. " + paper.paper_table(5)["notes"][0],
        quantities=(
            Quantity(what="clean accuracy at the largest C_P that has clean classes, of the control's",
                     claim=HARDLY_CHANGED, paper=paper.clean_of_benign(_with_clean(printed)), here=clean,
                     over=f"{count} classes"),
            Quantity(what="accuracy of poisoned classes at the largest C_P, of the control's", claim=BELOW_ONE,
                     paper=printed[-1]["accuracy"]["poisoned"] / printed[0]["accuracy"]["clean"], here=wrong,
                     over=f"{len(poisoned[-1]['poisoned_concepts']) if poisoned else 0} classes"),
        ),
        rows=class_rows([control, *poisoned]) if poisoned else (),
    )  # fmt: skip


def filters(measured: Measured) -> Comparison:
    """Figure 9: what tells poison from benign pairs."""
    clean = [model["name"] for model in measured.models(CLEAN_LABEL)[1:]]
    graded = [name for name, record in measured.poison.items() if record.poisoned and name in measured.scores]
    chosen = next((name for name in reversed(graded) if name in clean), graded[-1] if graded else None)
    scores = {score["name"]: score for score in measured.scores.get(chosen, ())}

    def grade(name: str, *keys: str) -> Estimate | None:
        value = scores.get(name)
        for key in keys:
            value = None if value is None else value.get(key)
        return None if value is None else estimate(value, 0)

    attack = measured.poison[chosen].kind if chosen else ""
    return Comparison(
        name="Figure 9", about="Neither CLIP alignment nor D_s tells clean-label poison from benign pairs well.",
        quantities=(
            Quantity(what="benign pairs lost where half of the poison goes by CLIP alignment", claim=(0.1, inf),
                     paper=paper.FILTERED_BENIGN, over="pairs",
                     here=grade(CLIP, "at_half_the_poison", "benign_lost_share")),
            Quantity(what="AUC of D_s for poison", claim=(0.4, 0.65), here=grade(STRUCTURE, "auc"), over="pairs"),
        ), differs="" if attack == CLEAN_LABEL else f"the poison here is {attack}, which the paper did not filter",
        missing="the step filters of a poisoned arm",
    )  # fmt: skip
