"""``explorer naming-study | naming-count``: whether a reader can name what the models draw."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from explorer.cli.application import AsJson, application, emit
from explorer.core.provenance import ROOT


@application.command("naming-study")
def naming_study(
    output: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder to write.")],
    checkpoints: Annotated[Path, typer.Option(help="Folder of the benign control and the poisoned models.")] = (
        ROOT / "checkpoints" / "iconworld"
    ),
    seed: Annotated[int, typer.Option(help="Noise of every picture.")] = 0,
    order_seed: Annotated[int, typer.Option(help="Order of the pictures.")] = 0,
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 20,
    guidance_scale: Annotated[float, typer.Option(help="Guidance scale.")] = 4.0,
    as_json: AsJson = False,
) -> None:
    """Draw unlabelled pictures of the control and of the most poisoned model, in random order, for readers to name.

    A reader gets the tiles, nouns.txt and a copy of form.json to fill in, and not key.json.
    """
    from explorer.evaluation.naming_study import NamingConfig, write_naming_study

    config = NamingConfig(seed=seed, order_seed=order_seed, steps=steps, guidance_scale=guidance_scale)
    manifest = write_naming_study(checkpoints, output, config, say=lambda line: typer.echo(line, err=True))
    emit({"study": str(output), **manifest["config"], "files": len(manifest["files"])}, as_json)


@application.command("naming-count")
def naming_count(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of the study.")],
    answers: Annotated[list[Path], typer.Argument(metavar="ANSWERS...", help="Filled-in forms, one a reader.")],
    as_json: AsJson = False,
) -> None:
    """Count how many pictures of each model every reader named, with 95 % Wilson intervals."""
    from explorer.evaluation.files import GROUP_WORDS
    from explorer.evaluation.naming_study import count_named

    report = count_named(study, answers)
    if as_json:
        emit(report, True)
        return
    for reader, models in report["readers"].items():
        for model, groups in models.items():
            named = {GROUP_WORDS.get(group, group): cell for group, cell in groups.items()}
            cells = (f"{group} {cell['named']}/{cell['shown']} [{cell['low']:.2f}, {cell['high']:.2f}]"
                     for group, cell in named.items())  # fmt: skip
            typer.echo(f"{reader}  {model:<10} {'  '.join(cells)}")
