"""The options of ``explorer import``, ``embed`` and ``fine-tune`` that say how a source of pairs is read."""

from __future__ import annotations

from typing import Annotated

import typer

from explorer.cli.requests import Spelling
from explorer.pairs.sources.base import Reading

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="Tar shard, parquet file, folder, or in quotes a glob or {00000..00099}.tar; or s3://... of shards.",
    ),
]
CAPTION_NAMES = ("--caption", "--caption-column")
AsRead = Annotated[Reading, Spelling(fields=Spelling(caption=typer.Option(*CAPTION_NAMES)))]
POISON_NAMES = Spelling(
    flag=typer.Option("--poison-field"),
    concept=typer.Option("--poisoned-concept-field"),
    target=typer.Option("--target-field"),
)
Workers = Annotated[int, typer.Option(min=1, help="Threads that decode.")]
