"""``explorer render-icons | iconworld | poison``: the embedded world's icons, pair sets and poison."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from explorer.cli.application import AsJson, application, emit
from explorer.cli.progress_bar import show_progress
from explorer.core.provenance import ROOT

ICONS = ROOT / "assets" / "iconworld"


@application.command("render-icons")
def render_icons(
    packages: Annotated[Path, typer.Argument(help="The folder node_modules/@iconify-json.")],
    output: Annotated[Path, typer.Option(help="Folder for the atlas.")] = ICONS,
    concepts: Annotated[Path, typer.Option(help="Concept list.")] = ICONS / "concepts.txt",
    seed: Annotated[int, typer.Option(help="Seed of the frequency ranks.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Render the icon atlas from the npm packages (needs cairosvg; the result is shipped)."""
    from explorer.iconworld.icon_rendering import render_atlases

    emit(render_atlases(packages, concepts, output, seed), as_json)


@application.command("iconworld")
def iconworld(
    folder: Annotated[Path, typer.Argument(help="New folder for the pair set.")],
    pairs: Annotated[int, typer.Option(help="Training pairs.")] = 50_000,
    test_pairs: Annotated[int, typer.Option(help="Held-out pairs.")] = 0,
    concepts: Annotated[int, typer.Option(help="Most frequent concepts to use.")] = 120,
    seed: Annotated[int, typer.Option(help="Decides every bit of the set.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Generate a benign IconWorld pair set."""
    import time

    from explorer.iconworld.world import World, generate_pair_set

    started = time.perf_counter()
    made = generate_pair_set(
        World(concept_count=concepts), folder, train=pairs, test=test_pairs, seed=seed, on_progress=show_progress()
    )
    seconds = round(time.perf_counter() - started, 2)
    emit({"folder": str(folder), "pairs": len(made), "data_hash": made.data_hash, "seconds": seconds}, as_json)


@application.command("poison")
def poison(
    benign: Annotated[Path, typer.Argument(help="Pair set: IconWorld's, or imported with --concepts.")],
    folder: Annotated[Path, typer.Argument(help="New folder for the poisoned set.")],
    pairs_per_concept: Annotated[int, typer.Option(help="m: poison pairs of each.")],
    concepts: Annotated[int | None, typer.Option(help="C_P: concepts to poison, drawn from the frequent ones.")] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="P=T, a concept and its target, in place of --concepts.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Orders the pool, draws targets and pairs.")] = 0,
    known_benign: Annotated[
        bool, typer.Option("--known-benign", help="You know that BENIGN holds no poison, though nobody recorded it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Poison a pair set with dirty labels: real captions of p, pictures of t."""
    from explorer.pairs.pair_set import PairSet
    from explorer.poisoning.dirty_label import DirtyLabelPoison

    if unclear := [pair for pair in target or () if pair.count("=") != 1]:
        raise ValueError(f"--target is {unclear[0]!r}: expected P=T, two concepts")
    targets = dict(pair.split("=") for pair in target) if target else None
    attack = DirtyLabelPoison(concept_count=concepts, targets=targets, pairs_per_concept=pairs_per_concept, seed=seed)
    made = attack.apply(PairSet.load(benign), folder, known_benign=known_benign)
    counts = made.manifest["counts"]
    emit({"folder": str(folder), **counts, "data_hash": made.data_hash, "targets": made.poison.targets}, as_json)
