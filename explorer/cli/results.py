"""``explorer results``: the paper's tables and figures beside what a study measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from explorer.cli.application import AsJson, application, emit
from explorer.cli.study import read_study
from explorer.results.comparisons import compare_study
from explorer.results.further_runs import told_of_runs
from explorer.results.measured import Measured
from explorer.results.poisoned_base import of_study, on_poisoned_bases, report
from explorer.results.report import markdown, put_on_page


@application.command("results")
def results(
    study: Annotated[Path, typer.Argument(help="Folder of a study, with results.")],
    run: Annotated[
        list[Path] | None,
        typer.Option(
            help="evaluation.json of a training run of its recipe, two or more, in place of `runs` in study.toml."
        ),
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="Markdown page that gets the table, between the two marks that it holds.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tables 1 to 6 and Figures 2 to 9 of Ding et al. (2024) beside what a study measured."""
    found = read_study(study)
    own = Measured.of(found, run or ())
    comparisons = compare_study(found, own)
    told, continued = told_of_runs(found, own.runs), of_study(own)
    if as_json:
        emit({"comparisons": [each.report() for each in comparisons], "poisoned_base": report(continued),
              "runs": told, "problems": own.problems}, True)  # fmt: skip
        return
    text = "\n\n".join(filter(None, (told, markdown(comparisons), on_poisoned_bases(continued))))
    if page is not None:
        put_on_page(page, text)
        typer.echo(f"Written to {page}.")
        return
    typer.echo(text)
    for step, problem in own.problems.items():
        typer.echo(f"{step}: {problem}", err=True)
