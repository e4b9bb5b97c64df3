"""``explorer study blame | blame-lists | blame-graded``: which training pairs are blamed, and whether rightly."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from explorer.cli.application import AsJson, emit
from explorer.cli.progress_bar import show_progress
from explorer.cli.requests import command
from explorer.cli.retraining import ArmName, Device, interval_words
from explorer.cli.study import Folder, study
from explorer.studies import blame as blaming
from explorer.studies.blame_grading import grade_blame, write_lists
from explorer.studies.results import command_line
from explorer.studies.study import Study

Base = Annotated[
    Path | None, typer.Option(help="What the arm was fine-tuned from; default: what its checkpoint records.")
]
Shown = Annotated[int, typer.Option(min=1, help="Pairs that are listed of each score.")]


@command("blame", study)
def blame(
    folder: Folder,
    arm: ArmName,
    concept: Annotated[str, typer.Argument(metavar="CONCEPT", help="That the arm's model no longer draws.")],
    pairs: Annotated[
        int, typer.Option(min=0, help="Training pairs whose gradients are taken, drawn without their flags; 0 for all.")
    ] = 1000,
    shown: Shown = 20,
    base: Base = None,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """The training pairs that are blamed for a concept, by co-mention, by the neighbourhood of its prompt and by
    gradients; stored in the study, for the app. What a score predicts, `blame-lists` and `blame-graded` find out."""
    opened = Study.load(folder)
    blaming.blame_files(opened, arm, [concept])
    blamed = blaming.blame_scores(
        opened, arm, [concept], pairs=pairs, base=base, device=device, on_progress=show_progress()
    )  # fmt: skip
    (path,) = blaming.store_blame(opened, arm, [concept], blamed, shown)
    found = blaming.described(opened, arm, concept, blamed, 0, shown)
    typer.echo(f"stored in {path}", err=True)
    if as_json:
        emit(found, True)
        return
    typer.echo(f"{found['prompt']}: mentioned in {found['mentioned_in']} captions; {found['unproven']}")
    for score in found["scores"]:
        auc = "not recorded" if score["poison_auc"] is None else f"{score['poison_auc']:.3f}"
        typer.echo(f"{score['name']} of {score['measured']} pairs, AUC for poison {auc}: {score['words']}")
        for pair in score["pairs"]:
            kind = {True: "poison", False: "benign", None: "not recorded"}[pair["is_poison"]]
            typer.echo(f"  {pair['uid']}  {pair['score']:.4g}  {kind}  {pair['caption']}")


@command("blame-lists", study)
def blame_lists(
    folder: Folder,
    arm: ArmName,
    broken: Annotated[
        int, typer.Option(min=1, help="Concepts asked about: the worst drawn, against the control, of those that no "
                          "poison aims at.")
    ] = 20,
    pairs: Annotated[
        int, typer.Option(min=0, help="Candidates, drawn from the training pairs without their flags; 0 for all. Every "
                          "model is trained on these alone.")
    ] = 2000,
    leave_out: Annotated[int, typer.Option(min=1, help="Candidates that each model is trained without.")] = 1000,
    shown: Shown = 20,
    base: Base = None,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """For every score of blame, and for a random draw, the recipe of what `study retrain --recipe` leaves out, so that
    `blame-graded` can say which of the scores predicts harm. Blame for each of the concepts is stored for the app."""
    found = write_lists(
        Study.load(folder), arm, concepts=broken, pairs=pairs, left_out=leave_out, shown=shown, base=base,
        device=device, on_progress=show_progress(),
    )  # fmt: skip
    if as_json:
        emit(found, True)
        return
    typer.echo(f"{found['left_out']} of {found['candidates']} candidates, for {', '.join(found['concepts'])}")
    for each in found["lists"]:
        typer.echo(_list_words(each))
        recipe = Path(found["folder"]) / each["recipe"]
        typer.echo(f"  {command_line('retrain', folder, arm, '--recipe', recipe)}")


@study.command("blame-graded")
def blame_graded(folder: Folder, arm: ArmName, as_json: AsJson = False) -> None:
    """What models draw that were trained without the pairs of `blame-lists`, concept by concept less the one that was
    trained without a random draw: of the broken concepts, and of the others. Run the step `retrained` before."""
    found = grade_blame(Study.load(folder), arm)
    if as_json:
        emit(found, True)
        return
    typer.echo(f"{found['left_out']} of {found['candidates']} candidates left out; 95 % t-intervals over concepts")
    for each in found["lists"]:
        typer.echo(_list_words(each))
        for words, shares in (("top-1", each["top1"]), ("less random", each["less_random"])):
            if shares is not None:
                typer.echo(
                    f"  {words}: {', '.join(f'{group} {interval_words(one)}' for group, one in shares.items() if one)}"
                )
        if each["words"] is not None:
            typer.echo(f"  {each['words']}")


def _list_words(each: dict[str, Any]) -> str:
    poison = "not recorded" if each["poison"] is None else each["poison"]
    return f"{each['name']}: poison {poison}, mention one of the concepts {each['mentioning']}"
