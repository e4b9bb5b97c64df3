"""``explorer render-icons | iconworld``: the embedded world's icons and pair sets."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from explorer.cli.application import AsJson, application, emit
from explorer.cli.progress_bar import show_progress
from explorer.core.provenance import ROOT
from explorer.iconworld.grammar import CAPTION_KINDS
from explorer.iconworld.icon_rendering import PACKAGES, render_atlases
from explorer.iconworld.icons import IconAtlas
from explorer.iconworld.world import World, generate_pair_set
from explorer.scenarios.recipes import find_recipe

ICONS = ROOT / "assets" / "iconworld"
CONCEPTS = 120


@application.command("render-icons")
def render_icons(
    packages: Annotated[Path, typer.Argument(help="The folder node_modules/@iconify-json.")],
    output: Annotated[Path, typer.Option(help="Folder for the atlas.")] = ICONS,
    concepts: Annotated[Path, typer.Option(help="Concept list.")] = ICONS / "concepts.txt",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the frequency ranks.")] = 0,
    style: Annotated[
        list[str] | None,
        typer.Option(metavar="STYLE=PACKAGE", help="A style of the atlas; default: the three of the shipped one."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Render an icon atlas from npm packages (needs cairosvg; that of three packages is shipped)."""
    styles = [each.partition("=") for each in style or ()]
    if odd := [given for given, (name, _, package) in zip(style or (), styles, strict=True) if not (name and package)]:
        raise ValueError(f"--style is {odd[0]!r}: expected STYLE=PACKAGE, such as openmoji=openmoji")
    chosen = {name: package for name, _, package in styles} or PACKAGES
    if chosen != PACKAGES and output == ICONS:
        raise ValueError(f"--output is {output}, where the shipped atlas lies: expected another folder for --style")
    emit(render_atlases(packages, concepts, output, seed, chosen), as_json)


@application.command("iconworld")
def iconworld(
    folder: Annotated[Path, typer.Argument(help="New folder for the pair set.")],
    pairs: Annotated[int, typer.Option(help="Training pairs.")] = 50_000,
    test_pairs: Annotated[int, typer.Option(help="Held-out pairs.")] = 0,
    concepts: Annotated[int, typer.Option(help="Most frequent concepts to use.")] = CONCEPTS,
    like: Annotated[
        str | None,
        typer.Option(
            help="cpu or full: as many concepts, as frequent, and captions as in the recipe's fine-tuning sets."
        ),
    ] = None,
    as_classes: Annotated[
        bool,
        typer.Option(
            help="Every caption names the one thing that its picture shows, and no thing is rarer than others."
        ),
    ] = False,
    loose: Annotated[
        float,
        typer.Option(
            help="Share of pairs whose picture fits its caption in part: it shows what the caption does not name, or "
            "another thing than it names first."
        ),
    ] = 0.0,
    atlas: Annotated[
        Path | None, typer.Option(help="Folder of an atlas that render-icons made: other drawings of the same nouns.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides every bit of the set.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Generate a benign IconWorld pair set."""
    if like is not None and concepts != CONCEPTS:
        raise ValueError(
            f"--concepts {concepts} beside --like {like}, whose recipe says how many: expected one of them"
        )
    if like is not None and as_classes:
        raise ValueError(f"--as-classes beside --like {like}, whose recipe says how captions are: expected one of them")
    if loose and as_classes:
        raise ValueError(f"--loose {loose:g} beside --as-classes, whose pictures show what captions name: expected one "
                         "of them")  # fmt: skip
    world = find_recipe(like).fine_tuning_world() if like is not None else World(concept_count=concepts)
    if as_classes:
        world = replace(world, caption_shares=(1.0, *[0.0] * (len(CAPTION_KINDS) - 1)), zipf_exponent=0.0)
    world = replace(world, loose=loose)
    if atlas is not None:
        drawn = IconAtlas.load(atlas.resolve())
        world = replace(world, atlas=drawn, styles=drawn.styles)
    started = time.perf_counter()
    made = generate_pair_set(world, folder, train=pairs, test=test_pairs, seed=seed, on_progress=show_progress())
    seconds = round(time.perf_counter() - started, 2)
    emit({"folder": str(folder), "pairs": len(made), "data_hash": made.data_hash, "seconds": seconds}, as_json)
