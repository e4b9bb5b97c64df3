"""An aesthetics head for pictures that no published one knows, such as icons.

LAION's heads were fitted to people's ratings of photographs. Where there are no ratings there is damage of a known
degree: this one is fitted to how little a picture is damaged, 10 as it is to 1, over the same kind of features and in
the same kind of file. So it scores how *whole* a picture looks, not how it pleases.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from explorer.core.intervals import area_interval
from explorer.core.new_folder import check_new_folder
from explorer.core.progress import OnProgress, counted, unheard
from explorer.core.provenance import read_manifest, write_manifest
from explorer.embeddings.universal_extractor import UniversalExtractor
from explorer.evaluation.aesthetics import head_metadata
from explorer.pairs.pair_set import PairSet
from explorer.scenarios.damaged_pictures import DEGREES, TRAINED, UNSEEN, Damage

KIND = "aesthetics-head"
WEIGHTS_NAME = "head.safetensors"
BEST, WORST = 10.0, 1.0
"""Scores of a picture as it is, and of one damaged to the highest degree: the ends of LAION's scale."""
PENALTIES = tuple(10.0**power for power in range(-2, 5))
"""Of the ridge regression on features of unit variance; five folds of pictures choose."""
LEFT_BELOW = 0.1
"""Share of whole held-out pictures below the threshold, as tau is that quantile of the control's similarities."""
LEAST = 20
"""Pictures of either set."""
AT_ONCE = 512


def train_aesthetics(
    extractor: UniversalExtractor, pairs: PairSet, held_out: PairSet, folder: Path, *, pictures: int = 4000,
    measured: int = 1000, seed: int = 0, on_progress: OnProgress = unheard,
) -> dict[str, Any]:  # fmt: skip
    """Fit a head to the training pictures of ``pairs``, taken for whole as they are, and measure it on others.

    Args:
        extractor: whose features the head reads; its identity is kept in the file, so that no other is taken for it.
        held_out: a set of other pictures, all of which may be measured on.
        folder: new folder for the head and its manifest.
        pictures: at most so many are fitted to, each as it is and damaged in one way to one degree.
        measured: at most so many are measured on, each damaged in every way.
        seed: of which pictures are taken, and of their damage.

    Returns:
        The manifest: ``metrics`` holds ``threshold``, the score that nine tenths of the whole held-out pictures are
        above; ``whole``, their mean score; and for every way of damage whether it was ``trained`` on and ``auc``, by
        degree, the chance that a whole picture scores above a damaged one, with 95 % percentile intervals of a
        bootstrap over pictures.

    Raises:
        ValueError: if either number is below :data:`LEAST`, a set has fewer pictures to give than that, both sets are
            the same, or ``folder`` holds something.
    """
    check_new_folder(folder)
    if min(pictures, measured) < LEAST:
        raise ValueError(f"pictures is {pictures}, measured is {measured}: expected {LEAST} or more of both")
    if held_out.is_known_as(pairs.data_hash):
        raise ValueError(f"{held_out.folder} holds the pairs that the head is fitted to: expected others")
    random = np.random.default_rng(seed)
    rows = _drawn(pairs, pairs.training_rows, pictures, random)
    tested = _drawn(held_out, np.arange(len(held_out.table)), measured, random)
    generator = torch.Generator().manual_seed(seed)
    weight, bias, penalty = _fitted(extractor, pairs.images, rows, generator, on_progress)
    metrics = _measured(extractor, held_out.images[tested], weight, bias, generator, on_progress)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {"weight": weight[None].float().contiguous(), "bias": bias[None].float()}, folder / WEIGHTS_NAME,
        metadata=head_metadata(extractor.identity, metrics["threshold"]),
    )  # fmt: skip
    config = {"extractor": {"name": extractor.name, "identity": extractor.identity}, "pictures": len(rows),
              "measured": len(tested), "held_out": held_out.data_hash, "penalty": penalty,
              "scores": [BEST, WORST], "degrees": DEGREES}  # fmt: skip
    write_manifest(
        folder, kind=KIND, config=config, seed=seed, data_hash=pairs.data_hash, files=[WEIGHTS_NAME],
        metrics=metrics,
    )  # fmt: skip
    return read_manifest(folder, kind=KIND)


def _drawn(pairs: PairSet, rows: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Rows of different pictures, ``count`` of them at most, in order."""
    different = np.unique(pairs.table["image_index"].to_numpy()[rows])
    if len(different) < LEAST:
        raise ValueError(f"{pairs.folder} has {len(different)} pictures for this: expected {LEAST} or more")
    return np.sort(random.permutation(different)[:count])


def _fitted(
    extractor: UniversalExtractor, images: np.ndarray, rows: np.ndarray, generator: torch.Generator,
    on_progress: OnProgress,
) -> tuple[torch.Tensor, torch.Tensor, float]:  # fmt: skip
    """Weights fp64 ``[d]``, bias and the penalty that was chosen."""
    features, scores, pictures = [], [], []
    kinds = [(damaging, degree) for damaging in TRAINED.values() for degree in DEGREES]
    parts = np.array_split(rows, -(-len(rows) // AT_ONCE))
    for part in counted(parts, on_progress, "damaging pictures", "batch"):
        whole = _as_shares(images[part])
        kind, others = torch.randint(len(kinds), (len(part),), generator=generator), whole.roll(1, dims=0)
        damaged, degrees = whole.clone(), torch.zeros(len(part), dtype=torch.float64)
        for number in kind.unique().tolist():
            (damaging, degree), own = kinds[number], kind == number
            damaged[own] = damaging(whole[own], Damage(degree=degree, others=others[own], generator=generator))
            degrees[own] = degree
        features += [extractor.encode_images(_as_bytes(each)) for each in (whole, damaged)]
        scores += [torch.zeros_like(degrees), degrees]
        pictures += [part, part]
    return _ridge(torch.cat(features).double(), BEST - (BEST - WORST) * torch.cat(scores), np.concatenate(pictures))


def _ridge(found: torch.Tensor, wanted: torch.Tensor, pictures: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, float]:
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold

    # Features of one CLIP may vary a thousandth of another's; a penalty is to mean the same for both.
    spread, centre = found.std(dim=0).clamp_min(1e-12), found.mean(dim=0)
    # A picture as it is and damaged are in one fold: else the one tells of the other.
    folds = list(GroupKFold(5).split(found, groups=pictures))
    model = RidgeCV(alphas=PENALTIES, cv=folds).fit(((found - centre) / spread).numpy(), wanted.numpy())
    weight = torch.from_numpy(model.coef_) / spread
    return weight, model.intercept_ - weight @ centre, float(model.alpha_)


def _measured(
    extractor: UniversalExtractor, images: np.ndarray, weight: torch.Tensor, bias: torch.Tensor,
    generator: torch.Generator, on_progress: OnProgress,
) -> dict[str, Any]:  # fmt: skip
    parts = np.array_split(np.arange(len(images)), -(-len(images) // AT_ONCE))
    ways = {"whole": None} | {(way, degree): damaging for way, damaging in (TRAINED | UNSEEN).items()
                              for degree in DEGREES}  # fmt: skip
    scores = {}
    for way, damaging in counted(list(ways.items()), on_progress, "measuring", "way and degree"):
        found = []
        for part in parts:
            shown = images[part]
            if damaging is not None:
                shares = _as_shares(shown)
                by = Damage(degree=way[1], others=shares.roll(1, dims=0), generator=generator)
                shown = _as_bytes(damaging(shares, by))
            found.append(extractor.encode_images(shown).double() @ weight + bias)
        scores[way] = torch.cat(found).numpy()
    whole = scores["whole"]
    told = {
        way: {"trained": way in TRAINED, "auc": {str(degree): _auc(whole, scores[way, degree]) for degree in DEGREES}}
        for way in (*TRAINED, *UNSEEN)
    }
    return {"threshold": float(np.quantile(whole, LEFT_BELOW)), "whole": float(whole.mean()), "ways": told}


def _auc(whole: np.ndarray, damaged: np.ndarray) -> dict[str, float | None]:
    return area_interval(whole, damaged, paired=True).as_json()


def _as_shares(images: np.ndarray) -> torch.Tensor:
    """uint8 ``[n, H, W, 3]`` as float ``[n, 3, H, W]`` in [0, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def _as_bytes(images: torch.Tensor) -> np.ndarray:
    return (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
