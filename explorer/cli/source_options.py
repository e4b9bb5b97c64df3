"""The options of ``explorer import``, ``embed`` and ``fine-tune`` that say how a source of pairs is read."""

from __future__ import annotations

from typing import Annotated, Any

import typer

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE", help="Tar shard, parquet file, folder, or in quotes a glob or {00000..00099}.tar. Local only."
    ),
]
Kind = Annotated[str, typer.Option(help="auto, webdataset, parquet, imagefolder or cifar10.")]
SplitOption = Annotated[
    str | None,
    typer.Option(
        "--split",
        help="Which split to read where there are several (train, validation, test, ...), or all; several are never "
        "joined unasked. Where the source names none, what its pairs become.",
    ),
]
Captions = Annotated[
    str, typer.Option(help="Of a folder of pictures: captions from table, sidecar, folder (its name), or auto.")
]
ImageField = Annotated[
    str | None,
    typer.Option("--image", help="Column of the pictures, or of their paths in a table; in tar shards the extension."),
]
CaptionField = Annotated[
    str | None,
    typer.Option(
        "--caption",
        "--caption-column",
        help="Column or field of the captions, where it has none of the usual names or several have; or txt.",
    ),
]
UidField = Annotated[str | None, typer.Option("--uid", help="Column or field that names the pairs; default: uid.")]


def reading(
    kind: str, split: str | None, captions: str, image: str | None, caption: str | None, uid: str | None
) -> dict[str, Any]:
    """What these options say, as :func:`~explorer.pairs.sources.detection.open_source` takes it."""
    from explorer.pairs.sources.base import Fields

    fields = Fields(image=image, caption=caption, uid=uid)
    return {"kind": kind, "split": split, "captions": captions, "fields": fields}
