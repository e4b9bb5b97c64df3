"""Clean-label poison: true pairs of p whose pictures are perturbed until an autoencoder takes them for pictures of t.

Ding et al. 2024, section 5.1, with the attack of Shan et al. 2024 (Nightshade). A reader sees a right caption beside a
picture of p; a latent diffusion model, which is trained on latents, sees one that is nearer to t.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas
import torch

from explorer.checkpoints.module_identity import module_identity
from explorer.core.block_files import BlockArray, BlockFiles
from explorer.core.poison_record import NO_POISON, PoisonRecord
from explorer.core.progress import OnProgress, Tally, unheard
from explorer.core.provenance import hash_json, replacing
from explorer.iconworld.autoencoder import peak_signal_to_noise
from explorer.pairs.pair_set import PairSet
from explorer.pairs.poison_flags import PoisonFlags
from explorer.poisoning.attack import Attack, pairs_marked
from explorer.poisoning.candidates import ChosenPairs, choose_pairs, concepts_of
from explorer.poisoning.early_layers import check_layers, early_distance, early_outputs
from explorer.poisoning.perturbation import Perturbation, largest_change, latent_distance, latents_of, perturbed
from explorer.poisoning.structural_similarity import WINDOW, structural_similarity

if TYPE_CHECKING:
    from explorer.embeddings.universal_extractor import UniversalExtractor
    from explorer.pairs.concept_list import ConceptList
    from explorer.poisoning.dirty_label import DirtyLabelPoison
    from explorer.poisoning.target_pictures import TargetPictures

KIND = "clean-label"
OBJECTIVE = "squared distance of the means of the latents"
NOT_ASKED = ("momentum", "restarts", "early_layers")
"""Settings of which a record says nothing where they are 0, as records of before there was a choice."""
FIGURES_NAME = "perturbation.parquet"
FIGURES = ("latent_distance_before", "latent_distance_after", "largest_change", "psnr", "ssim", "cosine_before",
           "cosine_after")  # fmt: skip
MOST_AT_ONCE, PIXELS_AT_ONCE = 32, 8 * 512**2
"""Pictures a batch unless the caller says how many."""
COPIED_AT_ONCE = 1024
PERTURBED = "-towards-{target}"
"""What the uid of a perturbed pair ends on."""
START_STREAM = 305
"""Of random numbers: where restarts begin."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CleanLabelPoison(Attack):
    """m training pairs of each p, chosen by ``explorer/poisoning/candidates.py``, keep their captions; their pictures
    are perturbed towards the picture of t. Of an IconWorld set and of any other it is the same.

    A run that is killed goes on with the batches that are missing, and gives the same bits on the same machine.
    """

    attack: DirtyLabelPoison
    """Its dirty-label counterpart: which concepts, targets and captions, how many pairs of each, and the seed."""
    perturbation: Perturbation
    autoencoder: Any
    """Of the models that are to be misled: an ``AutoencoderKL``, on the device and in the precision of the work. It is
    frozen."""
    extractor: UniversalExtractor
    """Orders the candidates, and says how much a perturbed picture still shows p."""
    target_pictures: TargetPictures
    kept: Path
    """Folder of what is finished while the work goes on; removed in the end."""
    least_score: float | None = None
    """As in :func:`~explorer.poisoning.candidates.choose_pairs`."""
    listed: ConceptList | None = None
    """Gives concepts their prompts, as in :func:`~explorer.poisoning.candidates.concepts_of`."""
    batch_size: int | None = None
    """Pictures perturbed at once, at least 1; None for 32 of up to 256 pixels a side, and fewer of larger ones."""
    on_progress: OnProgress = unheard

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch size is {self.batch_size}: expected at least 1 picture")

    @property
    def seed(self) -> int:
        """The counterpart's."""
        return self.attack.seed

    @property
    def parameters(self) -> dict[str, Any]:
        """What the record of this attack holds beside the fields that all attacks have."""
        words = None if self.listed is None else [self.listed.template, *(
            [concept.name, concept.shown] for concept in self.listed.concepts)]  # fmt: skip
        return {
            **self.attack.parameters, **_asked(self.perturbation), "objective": OBJECTIVE,
            "least_score": self.least_score, "autoencoder": module_identity(self.autoencoder),
            "precision": str(self.autoencoder.dtype).removeprefix("torch."),
            "extractor": self.extractor.identity, "target_pictures": self.target_pictures.described,
            **({} if words is None else {"words": hash_json(words)}),
        }  # fmt: skip

    def apply(self, pairs: PairSet, folder: Path | str, *, known_benign: bool = False) -> PairSet:
        """As :meth:`Attack.apply`; beside the set lie the figures of every poison pair (``perturbation.parquet``)."""
        made = super().apply(pairs, folder, known_benign=known_benign)
        shutil.rmtree(self.kept, ignore_errors=True)
        return made

    def plan(self, pairs: PairSet) -> tuple[PoisonRecord, Callable[[], tuple[pandas.DataFrame, np.ndarray]]]:
        """As :meth:`Attack.plan`; refused are also pictures of a size that the autoencoder does not take."""
        height, width = pairs.images.shape[1:3]
        factor = 2 ** (len(self.autoencoder.config.block_out_channels) - 1)
        if height != width or height % factor or height < WINDOW:
            raise ValueError(f"pictures of {pairs.folder} are {height} x {width} pixels: expected squares whose side "
                             f"is a multiple of {factor}, at least {WINDOW}")  # fmt: skip
        check_layers(len(self.autoencoder.config.block_out_channels), self.perturbation.early_layers)
        chosen = choose_pairs(
            self.attack, pairs, self.extractor, self.least_score, self.listed, self.on_progress
        )  # fmt: skip
        count = len(chosen.rows)
        record = NO_POISON if not count else PoisonRecord(
            kind=KIND, concepts=tuple(chosen.targets), targets={} if self.attack.shuffled else chosen.targets,
            pairs=count, seed=self.seed, strength=count / len(pairs.training_rows), parameters=self.parameters,
        )  # fmt: skip
        return record, lambda: self._poisoned(pairs, chosen)

    def write_beside(
        self, folder: Path, benign: PairSet, table: pandas.DataFrame, images: np.ndarray
    ) -> tuple[str, ...]:
        """``perturbation.parquet``: of each poison pair the distance of its latents to its target's, before and after;
        the largest change of a value, in [0, 1]; PSNR (dB) and SSIM against the picture before; and the cosine of the
        picture with "a photo of p", before and after."""
        rows = np.flatnonzero(PoisonFlags.of(table).poisoned)
        if not len(rows):
            return ()
        about = table.iloc[rows][["uid", "poisoned_concept", "target_concept"]].reset_index(drop=True)
        targets = self._targets(about["target_concept"].tolist(), benign, rows).latents_at(slice(None))
        photos = self._photos(benign, about["poisoned_concept"].tolist())
        after = images[table["image_index"].to_numpy()[rows]]
        parts = [
            self._figures(benign.read_images(rows[part]), after[part], targets[part], photos[part])
            for part in np.split(np.arange(len(rows)), range(self._at_once(benign), len(rows), self._at_once(benign)))
        ]
        figures = pandas.concat([about, pandas.concat(parts, ignore_index=True)], axis=1)
        with replacing(folder / FIGURES_NAME, alone=True) as temporary:
            figures.to_parquet(temporary, index=False)
        return (FIGURES_NAME,)

    def _poisoned(self, benign: PairSet, chosen: ChosenPairs) -> tuple[pandas.DataFrame, np.ndarray]:
        if not chosen.rows:
            return benign.table, benign.images
        pictures = self._perturbed(benign, chosen)
        table = pairs_marked(benign.table, chosen.rows, chosen.concepts, chosen.shown)
        index, places = table.index[chosen.rows], benign.table["image_index"].to_numpy()
        table.loc[index, "uid"] = [
            uid + PERTURBED.format(target=t) for uid, t in zip(table["uid"][index], chosen.shown, strict=True)
        ]
        # A picture that another pair shows, too, stays as it was for that pair.
        own = np.bincount(places)[places[chosen.rows]] == 1
        count = len(benign.images)
        new = np.where(own, places[chosen.rows], count + np.cumsum(~own) - 1)
        table.loc[index, "image_index"] = new
        # On disk, since a user's pictures may not fit in memory.
        images = np.lib.format.open_memmap(
            self.kept / "images.npy", "w+", np.uint8, (count + int((~own).sum()), *benign.images.shape[1:])
        )
        for start in range(0, count, COPIED_AT_ONCE):
            images[start : start + COPIED_AT_ONCE][: count - start] = benign.images[start : start + COPIED_AT_ONCE]
        for place, row in enumerate(new):
            images[row] = pictures[np.array([place])][0]
        return table, images

    def _perturbed(self, benign: PairSet, chosen: ChosenPairs) -> BlockArray:
        """The perturbed pictures in the order of ``chosen``."""
        self.autoencoder.requires_grad_(False)
        targets = self._targets(chosen.shown, benign, np.array(chosen.rows))
        config = {
            **self.parameters, "pictures": benign.data_hash,
            "pairs": hash_json([chosen.rows, chosen.shown]),
        }  # fmt: skip
        files = BlockFiles(root=self.kept, config=config, names=("pictures",), rows=len(chosen.rows), dtype="uint8",
                           block_rows=self._at_once(benign))  # fmt: skip
        left = sum(len(files.rows_of(block)) for block in files.missing())
        tally = Tally(self.on_progress, "perturbing pictures", left * self.perturbation.gradients, "picture step")

        def make(rows: range) -> dict[str, np.ndarray]:
            before = self._on_device(benign.read_images(np.array(chosen.rows)[rows.start : rows.stop]))
            part = slice(rows.start, rows.stop)
            latents = targets.latents_at(part).to(before.device)
            with self._further(targets, part, latents) as further:
                after = perturbed(self._encode, before, latents, self.perturbation, lambda: tally.add(len(rows)),
                                  self._starts(rows, before), further)  # fmt: skip
            return {"pictures": after.cpu().numpy()}

        files.fill(make)
        return files.open()["pictures"]

    def _starts(self, rows: range, pictures: torch.Tensor) -> list[torch.Tensor]:
        """Where in the budget each restart of these pictures begins, whatever batch they are in."""
        _, height, width, _ = pictures.shape
        drawn = [np.random.default_rng([self.seed, START_STREAM, row]).uniform(
                     -1, 1, (self.perturbation.restarts, 3, height, width)) for row in rows]  # fmt: skip
        return list(torch.from_numpy(np.stack(drawn, axis=1)).float())

    @contextmanager
    def _further(
        self, targets: _Targets, part: slice, latents: torch.Tensor
    ) -> Iterator[Callable[[], torch.Tensor] | None]:
        """What early layers add to the distance of these pairs, inside the block."""
        if not self.perturbation.early_layers:
            yield None
            return
        with early_outputs(self.autoencoder, self.perturbation.early_layers) as seen:
            latents_of(self._encode, self._on_device(targets.pictures_at(part)))
            aims = list(seen)
            yield lambda: early_distance(seen, aims, latents)

    def _targets(self, concepts: list[str], benign: PairSet, rows: np.ndarray) -> _Targets:
        """What the pairs at ``rows`` are perturbed towards: of their target's pictures the one whose latents are
        nearest to their own."""
        distinct = sorted(set(concepts))
        found = self.target_pictures.fitted(distinct, benign.images.shape[1], self.kept, self.on_progress)
        pictures = np.stack([found[name] for name in distinct])
        latents = torch.stack([latents_of(self._encode, self._on_device(each)).cpu() for each in pictures])
        mine = np.array([distinct.index(concept) for concept in concepts])
        nearest = np.zeros(len(rows), np.int64)
        if self.target_pictures.of_each > 1:
            at_once = self._at_once(benign)
            for start in range(0, len(rows), at_once):
                part = slice(start, start + at_once)
                own = latents_of(self._encode, self._on_device(benign.read_images(rows[part]))).cpu()
                nearest[part] = (latents[mine[part]] - own[:, None]).flatten(2).norm(dim=2).argmin(dim=1)
        return _Targets(pictures=pictures, latents=latents, places=(mine, nearest))

    def _photos(self, benign: PairSet, concepts: list[str]) -> torch.Tensor:
        """Features of "a photo of p" for each p, of unit length."""
        listed = concepts_of(benign, set(concepts), self.listed)
        return self.extractor.encode_texts([listed.prompt(concept) for concept in concepts])

    def _figures(
        self, before: np.ndarray, after: np.ndarray, targets: torch.Tensor, photos: torch.Tensor
    ) -> pandas.DataFrame:
        old, new = self._on_device(before), self._on_device(np.asarray(after))
        distances = [latent_distance(latents_of(self._encode, each).cpu(), targets) for each in (old, new)]
        cosines = [(self.extractor.encode_images(np.asarray(each)) * photos).sum(dim=1) for each in (before, after)]
        found = (*distances, largest_change(old, new), peak_signal_to_noise(new, old), structural_similarity(old, new),
                 *cosines)  # fmt: skip
        return pandas.DataFrame({name: value.cpu().numpy() for name, value in zip(FIGURES, found, strict=True)})

    def _encode(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.autoencoder.encode(pictures.to(self.autoencoder.dtype)).latent_dist.mean.float()

    def _on_device(self, pictures: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(pictures)).to(self.autoencoder.device)

    def _at_once(self, benign: PairSet) -> int:
        height, width = benign.images.shape[1:3]
        return self.batch_size or max(1, min(MOST_AT_ONCE, PIXELS_AT_ONCE // (height * width)))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Targets:
    """What pairs are perturbed towards."""

    pictures: np.ndarray
    """uint8 ``[targets, of_each, H, W, 3]``."""
    latents: torch.Tensor
    """Theirs, float32 ``[targets, of_each, ...]`` on the CPU."""
    places: tuple[np.ndarray, np.ndarray]
    """Of every pair its target, and which of that one's pictures."""

    def latents_at(self, pairs: slice) -> torch.Tensor:
        """Of some pairs, ``[n, ...]``."""
        return self.latents[self.places[0][pairs], self.places[1][pairs]]

    def pictures_at(self, pairs: slice) -> np.ndarray:
        """Of some pairs, ``[n, H, W, 3]``."""
        return self.pictures[self.places[0][pairs], self.places[1][pairs]]


def _asked(perturbation: Perturbation) -> dict[str, Any]:
    """Its settings, without what was not asked for."""
    return {name: value for name, value in asdict(perturbation).items() if value or name not in NOT_ASKED}


def mean_figures(folder: Path) -> dict[str, float]:
    """Means over the poison pairs of a clean-label set, and the share of the latent distance that is left on average;
    empty where it has no poison."""
    if not (folder / FIGURES_NAME).is_file():
        return {}
    figures = pandas.read_parquet(folder / FIGURES_NAME)
    left = figures["latent_distance_after"] / figures["latent_distance_before"]
    return {"latent_distance_left": float(left.mean()), **{name: float(figures[name].mean()) for name in FIGURES}}
