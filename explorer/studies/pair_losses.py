"""The denoising loss of every pair of an arm by the models of some arms, kept in blocks, so that it can be resumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.checkpoints.families import FAMILY_NAMES
from explorer.checkpoints.joint_pipelines import latent_shape
from explorer.checkpoints.module_identity import module_identity
from explorer.checkpoints.pipelines import load_pipeline
from explorer.core.block_files import BlockFiles
from explorer.core.provenance import hash_json
from explorer.defence.pair_sample import even_sample
from explorer.studies.inputs import StudyInputs
from explorer.studies.recorded import CONFIGURATIONS, loss_model, named
from explorer.studies.study import Study
from explorer.training.sample_loss import DRAWS, encoded_pictures, latent_losses

if TYPE_CHECKING:
    from explorer.studies.arm_pairs import ArmPairs
    from explorer.studies.steps.step import StepWork

LOSSES_FOLDER = "losses"
"""In the folder of a study's features."""
SEED = 0


def check_loss_models(inputs: StudyInputs) -> dict[str, str]:
    """The models that measure losses, as inputs.

    Raises:
        ValueError: if one cannot be used, or is of a family without a single text encoder.
    """
    found = {}
    for name in inputs.study.filters.loss_arms:
        arm = inputs.study.arm(name)
        if (family := inputs.checkpoint(arm).family) not in ("sd1", "sd2"):
            told = FAMILY_NAMES.get(family, family)
            raise ValueError(f"loss_arms of filters name {name}, which is {told}: expected SD 1.x or SD 2.x")
        found[loss_model(name)], configurations = inputs.of_checkpoint(arm).values()
        found[loss_model(named(CONFIGURATIONS, name))] = configurations
    return found


class PairLosses:
    """Losses by every model that the study's filters name. Pictures are encoded once for models of one autoencoder."""

    def __init__(self, work: StepWork, folder: Path) -> None:
        """``folder`` keeps what is measured, and what several models share."""
        self._work, self._root, self._study = work, folder / LOSSES_FOLDER, work.study
        self._pipelines: dict[str, Any] = {}

    def of(self, name: str, pairs: ArmPairs, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Model's arm to fp32 `[n]`, NaN of pairs that were not sampled or have no caption; which are sampled
        does not hang on their flags.

        Raises:
            ValueError: if the pairs' pictures cannot be read.
        """
        chosen, found = self._chosen(pairs, rows), {}
        for model in self._study.filters.loss_arms:
            found[model] = np.full(len(rows), np.nan, np.float32)
            found[model][chosen] = self._measured(name, model, pairs, rows[chosen])
        return found

    def _chosen(self, pairs: ArmPairs, rows: np.ndarray) -> np.ndarray:
        table = pairs.table.iloc[rows]
        captioned = np.flatnonzero(table["caption"].notna())
        if not (limit := self._study.filters.loss_pairs):
            return captioned
        return captioned[even_sample(table.iloc[captioned], limit, SEED)]

    def _measured(self, name: str, model: str, pairs: ArmPairs, rows: np.ndarray) -> np.ndarray:
        captions = pairs.table["caption"].to_numpy()[rows]
        latents = self._latents(name, model, pairs, rows)
        measured_by = [self._work.shared[loss_model(each)] for each in (model, named(CONFIGURATIONS, model))]
        kept = self._files("loss", pairs, rows, {"measured by": measured_by, "seed": SEED, "draws": DRAWS})

        def measure(block: range) -> dict[str, np.ndarray]:
            at = slice(block.start, block.stop)
            return {"loss": latent_losses(self._pipeline(model), latents(at), captions[at].tolist(), seed=SEED)}

        kept.fill(measure, on_progress=self._work.on_progress, task=f"losses of {name} by {model}")
        return kept.open()["loss"][np.arange(len(rows))]

    def _latents(self, name: str, model: str, pairs: ArmPairs, rows: np.ndarray) -> Callable[[slice], np.ndarray]:
        """Gives those of a slice of ``rows``; kept where several models may share an autoencoder."""

        def encoded(at: slice) -> np.ndarray:
            return encoded_pictures(self._pipeline(model), pairs.read_images(rows[at], self._size(model)))

        if len(self._study.filters.loss_arms) == 1:
            return encoded
        made_by = {"autoencoder": module_identity(self._pipeline(model).vae), "size": self._size(model)}
        kept = self._files("latents", pairs, rows, made_by)
        kept.fill(
            lambda block: {"latents": encoded(slice(block.start, block.stop))}, on_progress=self._work.on_progress,
            task=f"encoding pictures of {name}",
        )  # fmt: skip
        held = kept.open()["latents"]
        return lambda at: held[np.arange(at.start, at.stop)]

    def _files(self, what: str, pairs: ArmPairs, rows: np.ndarray, config: dict[str, Any]) -> BlockFiles:
        config |= {"pictures": pairs.data_hash, "rows": hash_json(rows.tolist()),
                   "precision": self._work.inputs.precision}  # fmt: skip
        # What is compared is float32: fp16 would tie many losses.
        return BlockFiles(root=self._root, config=config, names=(what,), rows=len(rows), dtype="float32")

    def _size(self, model: str) -> int:
        """Pixels a side of the pictures that a model is shown."""
        pipeline = self._pipeline(model)
        return latent_shape(pipeline, None, None)[1] * pipeline.vae_scale_factor

    def _pipeline(self, model: str) -> Any:
        """One in memory at a time."""
        if model not in self._pipelines:
            self._pipelines.clear()
            checkpoint = self._work.inputs.checkpoint(self._study.arm(model))
            self._pipelines[model] = load_pipeline(checkpoint, self._work.device, self._work.inputs.precision)
        return self._pipelines[model]


def loss_differences(study: Study) -> list[tuple[str, str]]:
    """Pairs of arms, in the order in which the study's filters name them, whose losses are compared."""
    arms = study.filters.loss_arms
    return [(first, second) for at, first in enumerate(arms) for second in arms[at + 1 :]]
