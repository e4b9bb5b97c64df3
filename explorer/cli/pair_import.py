"""``explorer import``: a user's data as a pair set, for every screen and for training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from explorer.cli.application import AsJson, application, emit
from explorer.cli.embeddings import Workers
from explorer.cli.source_options import (
    CaptionField,
    Captions,
    ImageField,
    Kind,
    Source,
    SplitOption,
    UidField,
    reading,
)


@application.command("import")
def import_command(
    source: Source,
    out: Annotated[Path, typer.Argument(help="New folder for the pair set.")],
    size: Annotated[int, typer.Option(help="Pixels of the square pictures.")] = 64,
    concepts: Annotated[
        Path | None, typer.Option(help="Text file of nouns, one a line, to find in the captions as whole words.")
    ] = None,
    kind: Kind = "auto",
    split: SplitOption = None,
    captions: Captions = "auto",
    image: ImageField = None,
    caption: CaptionField = None,
    uid: UidField = None,
    workers: Workers = 2,
    as_json: AsJson = False,
) -> None:
    """Resize and crop a source's usable pairs into a pair set; the unusable go to quarantine.parquet."""
    from explorer.data.pair_counts import COUNTED
    from explorer.data.pair_import import import_pairs, read_concepts
    from explorer.data.quarantine import count_reasons
    from explorer.data.source_detection import open_source

    opened = open_source(source, **reading(kind, split, captions, image, caption, uid))
    nouns = () if concepts is None else read_concepts(concepts)
    made, quarantined = import_pairs(opened, out, size=size, concepts=nouns, workers=workers)
    emit(
        {
            "folder": str(out),
            "kind": opened.kind,
            "records": len(made) + len(quarantined),
            "pairs": len(made),
            "quarantined": count_reasons(quarantined),
            **{name: made.manifest["config"][name] for name in (*COUNTED, "left_out")},
            "pairs_without_concept": int((made.table["concepts"].str.len() == 0).sum()),
            "data_hash": made.data_hash,
        },
        as_json,
    )
