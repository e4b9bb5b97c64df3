"""What the eye sees of clean-label poison: pictures before, and after each of several attacks on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from explorer.pairs.pair_set import PairSet
from explorer.poisoning.clean_label import FIGURES_NAME, NOT_ASKED, PERTURBED, mean_figures

CELL, HEAD, GAP = 96, 36, 6
INK, PAPER = (24, 24, 28), (255, 255, 255)


def perturbation_sheet(benign: PairSet, poisoned: Sequence[PairSet], count: int) -> Image.Image:
    """One row of pictures for the benign set, and one for each attack: the same pairs, each with p and t above it.

    Args:
        poisoned: clean-label sets of ``benign``, whose attacks chose the same pairs, as those of one seed do.
        count: pairs to show, spread over the poison; fewer where there are fewer.

    Raises:
        ValueError: if none is given, one is no clean-label set, or they share no poison pair.
    """
    if strange := [str(each.folder) for each in poisoned if not (each.folder / FIGURES_NAME).is_file()]:
        raise ValueError(f"{strange[0]} has no {FIGURES_NAME}: expected what `poison-clean-label` makes")
    found = [_poison_rows(each) for each in poisoned]
    before = {uid: row for row, uid in enumerate(benign.table["uid"])}
    shared = [uid for uid in found[0] if uid in before and all(uid in rows for rows in found)] if found else []
    if not shared:
        raise ValueError(f"{len(poisoned)} sets are given, which have no poison pair of {benign.folder} in common: "
                         "expected clean-label sets of it, of one seed")  # fmt: skip
    chosen = [
        shared[place] for place in np.unique(np.linspace(0, len(shared) - 1, min(count, len(shared))).astype(int))
    ]
    about = poisoned[0].table.iloc[[found[0][uid] for uid in chosen]]
    names = [f"{p}\nto {t}" for p, t in zip(about["poisoned_concept"], about["target_concept"], strict=True)]
    rows = [("as it was", benign.read_images(np.array([before[uid] for uid in chosen])))]
    rows += [(_told(each), each.read_images(np.array([rows_of[uid] for uid in chosen])))
             for each, rows_of in zip(poisoned, found, strict=True)]  # fmt: skip
    return _painted(names, rows)


def _painted(names: list[str], rows: list[tuple[str, np.ndarray]]) -> Image.Image:
    """Pictures of every row under the names of the columns, as wide and high as the longest words need."""
    font = ImageFont.load_default(12)
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    sizes = [pen.multiline_textbbox((0, 0), words, font=font)[2:] for words in [*names, *(words for words, _ in rows)]]
    column = max(CELL, *(math.ceil(width) for width, _ in sizes[: len(names)])) + GAP
    left = max(math.ceil(width) for width, _ in sizes[len(names) :]) + 2 * GAP
    line = max(CELL, *(math.ceil(height) for _, height in sizes[len(names) :])) + GAP
    sheet = Image.new("RGB", (left + len(names) * column, HEAD + len(rows) * line), PAPER)
    pen = ImageDraw.Draw(sheet)
    for place, words in enumerate(names):
        pen.multiline_text((left + place * column, 2), words, fill=INK, font=font)
    for row, (words, pictures) in enumerate(rows):
        pen.multiline_text((GAP, HEAD + row * line), words, fill=INK, font=font)
        for place, picture in enumerate(pictures):
            shown = Image.fromarray(picture).resize((CELL, CELL), Image.Resampling.LANCZOS)
            sheet.paste(shown, (left + place * column, HEAD + row * line))
    return sheet


def _poison_rows(poisoned: PairSet) -> dict[str, int]:
    """The uid that each poison pair had in the benign set to its row."""
    rows = np.flatnonzero(poisoned.flags.poisoned)
    table = poisoned.table.iloc[rows]
    return {uid.removesuffix(PERTURBED.format(target=t)): int(row)
            for uid, t, row in zip(table["uid"], table["target_concept"], rows, strict=True)}  # fmt: skip


def _told(poisoned: PairSet) -> str:
    """A line for each setting that is not the usual, and what came of it."""
    asked, figures = poisoned.poison.parameters, mean_figures(Path(poisoned.folder))
    several = asked["target_pictures"].get("of_each", 1)
    return "\n".join([
        f"budget {asked['budget']:g}, {asked['steps']} steps",
        *(f"{name.replace('_', ' ')} {asked[name]:g}" for name in NOT_ASKED if name in asked),
        *([f"{several} pictures of t"] if several > 1 else []),
        f"{figures['latent_distance_left']:.0%} of the distance left", f"cosine to p {figures['cosine_after']:.2f}",
    ])  # fmt: skip
