"""The pictures of each target that clean-label poison is perturbed towards: one a target or more, whoever drew them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
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

    draw: Callable[[list[str], int], np.ndarray]
    """Pictures of concepts, uint8 ``[n, H, W, 3]`` of any one size: the first of each for 0, and so on."""
    identity: dict[str, Any]
    """What decides them, JSON-serialisable: the model's hash, the seed and the steps, or the files' hashes."""
    of_each: int = 1
    """Pictures of a target; a poison picture is perturbed towards the nearest one."""
    at_once: int = 8
    """Pictures a block of the work."""

    def __post_init__(self) -> None:
        if self.of_each < 1:
            raise ValueError(f"pictures of each target are {self.of_each}: expected 1 or more")

    @property
    def described(self) -> dict[str, Any]:
        """What decides them, with how many there are; of one nothing is said, as before there was a choice."""
        return self.identity | ({"of_each": self.of_each} if self.of_each > 1 else {})

    def fitted(
        self, concepts: list[str], side: int, kept: Path, on_progress: OnProgress = unheard
    ) -> dict[str, np.ndarray]:
        """The pictures of each concept as squares of ``side`` pixels, uint8 ``[of_each, side, side, 3]``; those that
        are in the folder ``kept`` already are not drawn again."""
        config = {"targets": concepts, "side": side, **self.described}
        asked = [(concept, number) for number in range(self.of_each) for concept in concepts]
        files = BlockFiles(root=kept, config=config, names=("pictures",), rows=len(asked), dtype="uint8",
                           block_rows=self.at_once)  # fmt: skip

        def make(rows: range) -> dict[str, np.ndarray]:
            parts = [self.draw([concept for concept, _ in group], number)
                     for number, group in groupby((asked[row] for row in rows), key=lambda each: each[1])]  # fmt: skip
            return {"pictures": np.concatenate([fit_pictures(part, side) for part in parts])}

        files.fill(make, on_progress=on_progress, task="pictures of targets")
        found = files.open()["pictures"][np.arange(len(asked))].reshape(self.of_each, len(concepts), side, side, 3)
        return {concept: found[:, place] for place, concept in enumerate(concepts)}


def given_pictures(folder: Path, of_each: int = 1) -> TargetPictures:
    """Pictures that lie in ``folder`` as ``t.png``, one for each target t; further ones as ``t-1.png`` and so on.

    Raises:
        ValueError: if it is no folder, and later of a picture that is missing, unreadable or not square.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: expected one that holds a picture T.png of each target T")
    found = {path.stem: hash_file(path) for path in sorted(folder.glob("*.png"))}

    def read(name: str) -> np.ndarray:
        if name not in found:
            raise ValueError(f"{folder} holds no {name}.png: expected {of_each} of each target")
        with open_regular(folder / f"{name}.png") as stream:
            content = stream.read()
        try:
            return decode_image(content, Limits()).pixels
        except UnusableError as error:
            raise ValueError(f"{folder / name}.png cannot be used: {error}") from error

    def draw(concepts: list[str], number: int) -> np.ndarray:
        pictures = [read(f"{concept}-{number}" if number else concept) for concept in concepts]
        if sizes := {picture.shape[:2] for picture in pictures if picture.shape[0] != picture.shape[1]}:
            raise ValueError(f"{folder} holds pictures of {sorted(sizes)} pixels: expected squares")
        return np.stack([fit_pictures(picture[None], max(map(len, pictures)))[0] for picture in pictures])

    return TargetPictures(draw=draw, identity={"given": found}, of_each=of_each)
