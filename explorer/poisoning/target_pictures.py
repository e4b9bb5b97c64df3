"""The picture of each target that clean-label poison is perturbed towards: one a target, whoever drew it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from explorer.core.block_files import BlockFiles
from explorer.core.bounded_files import open_regular
from explorer.core.progress import OnProgress, unheard
from explorer.core.provenance import hash_file
from explorer.pairs.quarantine import UnusableError
from explorer.pairs.sources.decoding import Limits, decode_image
from explorer.training.encoded_pairs import fit_pictures


@dataclass(frozen=True, kw_only=True)
class TargetPictures:
    """Where pictures of targets come from; whoever can draw hands them over, since the attack need not know how."""

    draw: Callable[[list[str]], np.ndarray]
    """Pictures of concepts, uint8 ``[n, H, W, 3]`` of any one size."""
    identity: dict[str, Any]
    """What decides them, JSON-serialisable: the model's hash, the seed and the steps, or the files' hashes."""
    at_once: int = 8
    """Concepts a call."""

    def fitted(
        self, concepts: list[str], side: int, kept: Path, on_progress: OnProgress = unheard
    ) -> dict[str, np.ndarray]:
        """The picture of each concept as a square of ``side`` pixels, uint8 ``[side, side, 3]``; those that are in the
        folder ``kept`` already are not drawn again."""
        config = {"targets": concepts, "side": side, **self.identity}
        files = BlockFiles(root=kept, config=config, names=("pictures",), rows=len(concepts), dtype="uint8",
                           block_rows=self.at_once)  # fmt: skip

        def make(rows: range) -> dict[str, np.ndarray]:
            return {"pictures": fit_pictures(self.draw([concepts[row] for row in rows]), side)}

        files.fill(make, on_progress=on_progress, task="pictures of targets")
        return dict(zip(concepts, files.open()["pictures"][np.arange(len(concepts))], strict=True))


def given_pictures(folder: Path) -> TargetPictures:
    """Pictures that lie in ``folder`` as ``t.png``, one for each target t.

    Raises:
        ValueError: if it is no folder, and later of a picture that is missing, unreadable or not square.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: expected one that holds a picture T.png of each target T")
    found = {path.stem: hash_file(path) for path in sorted(folder.glob("*.png"))}

    def read(concept: str) -> np.ndarray:
        if concept not in found:
            raise ValueError(f"{folder} holds no {concept}.png: expected a picture of each target")
        with open_regular(folder / f"{concept}.png") as stream:
            content = stream.read()
        try:
            return decode_image(content, Limits()).pixels
        except UnusableError as error:
            raise ValueError(f"{folder / concept}.png cannot be used: {error}") from error

    def draw(concepts: list[str]) -> np.ndarray:
        pictures = [read(concept) for concept in concepts]
        if sizes := {picture.shape[:2] for picture in pictures if picture.shape[0] != picture.shape[1]}:
            raise ValueError(f"{folder} holds pictures of {sorted(sizes)} pixels: expected squares")
        return np.stack([fit_pictures(picture[None], max(map(len, pictures)))[0] for picture in pictures])

    return TargetPictures(draw=draw, identity={"given": found})
