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
    poison_field: Annotated[
        str | None, typer.Option(help="Field that says which pairs are poison: true/false, 1/0, yes/no; null: unknown.")
    ] = None,
    poisoned_concept_field: Annotated[
        str | None, typer.Option(help="Field of the concept that a poison pair poisons.")
    ] = None,
    target_field: Annotated[
        str | None, typer.Option(help="Field of the concept that a poison pair's picture shows.")
    ] = None,
    workers: Workers = 2,
    as_json: AsJson = False,
) -> None:
    """Resize and crop a source's usable pairs into a pair set; the unusable go to quarantine.parquet.

    Without --poison-field it is recorded of no pair whether it is poison. A finished import is not made again.
    """
    from explorer.pairs.counts import COUNTED
    from explorer.pairs.pair_import import import_pairs, read_concepts
    from explorer.pairs.poison_flags import PoisonFields
    from explorer.pairs.quarantine import count_reasons
    from explorer.pairs.sources.detection import open_source

    opened = open_source(source, **reading(kind, split, captions, image, caption, uid))
    nouns = () if concepts is None else read_concepts(concepts)
    made, quarantined = import_pairs(
        opened, out, size=size, concepts=nouns, workers=workers,
        poison=PoisonFields(flag=poison_field, concept=poisoned_concept_field, target=target_field),
        say=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    emit(
        {
            "folder": str(out),
            "kind": opened.kind,
            "records": len(made) + len(quarantined),
            "pairs": len(made),
            "quarantined": count_reasons(quarantined),
            **{name: made.manifest["config"][name] for name in (*COUNTED, "left_out")},
            **made.flags.counts(),
            "pairs_without_concept": int((made.table["concepts"].str.len() == 0).sum()),
            "data_hash": made.data_hash,
        },
        as_json,
    )
