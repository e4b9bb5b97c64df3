"""``explorer import``: a user's data as a pair set, for every screen and for training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from explorer.cli.application import AsJson, emit
from explorer.cli.progress_bar import show_progress
from explorer.cli.requests import command
from explorer.cli.source_options import POISON_NAMES, AsRead, Source, Workers
from explorer.pairs.counts import COUNTED
from explorer.pairs.pair_import import import_pairs, read_concepts
from explorer.pairs.poison_flags import PoisonFields
from explorer.pairs.quarantine import count_reasons
from explorer.pairs.sources.detection import open_source


@command("import")
def import_command(
    source: Source,
    out: Annotated[Path, typer.Argument(help="New folder for the pair set.")],
    reading: AsRead,
    poison: Annotated[PoisonFields, POISON_NAMES],
    size: Annotated[int, typer.Option(help="Pixels of the square pictures.")] = 64,
    concepts: Annotated[
        Path | None,
        typer.Option(help="Nouns to find in the captions as whole words: a text file, one a line, or a concepts.csv."),
    ] = None,
    workers: Workers = 2,
    as_json: AsJson = False,
) -> None:
    """Resize and crop a source's usable pairs into a pair set; the unusable go to quarantine.parquet.

    Without --poison-field it is recorded of no pair whether it is poison. A finished import is not made again.
    """
    opened = open_source(source, **vars(reading))
    nouns = () if concepts is None else read_concepts(concepts)
    made, quarantined = import_pairs(
        opened, out, size=size, concepts=nouns, workers=workers, poison=poison, on_progress=show_progress()
    )
    emit(
        {
            "folder": str(out),
            "kind": opened.kind,
            "records": len(made) + len(quarantined),
            "pairs": len(made),
            "quarantined": count_reasons(quarantined),
            **{name: made.manifest["config"][name] for name in (*COUNTED, "left_out")},
            **made.flags.counts(),
            "pairs_without_concept": int((made.table["concepts"].str.len() == 0).sum()) if nouns else None,
            "data_hash": made.data_hash,
        },
        as_json,
    )
