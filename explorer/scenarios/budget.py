"""The embedded world within a wall-clock budget: as many steps as fit, by the measured speed of each network, up to
the recipe's own number.

Before each stage its step is timed on the device, with the real network and batch; the steps that fit its share of the
time left become the recipe's, and are what the manifests tell. A slower stage takes time from the later ones, never
from what is finished.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from explorer.core.progress import OnProgress, note, unheard
from explorer.core.provenance import device_name
from explorer.embeddings.universal_extractor import build_clip, small_clip_config
from explorer.iconworld.autoencoder import AutoencoderLoss, build_autoencoder
from explorer.iconworld.denoiser import build_denoiser, build_scheduler
from explorer.iconworld.world import draw_pairs
from explorer.pairs.pair_set import PairSet
from explorer.scenarios.build import WorldBuild, model_name
from explorer.scenarios.recipes import Recipe
from explorer.scenarios.train_autoencoder import AutoencoderTask
from explorer.scenarios.train_denoiser import train_denoiser
from explorer.scenarios.train_extractor import ContrastiveLoss, ExtractorTask, make_tokenizer
from explorer.training.config import TrainingConfig
from explorer.training.trainer import METRICS_NAME, train

SHARES = {"autoencoder": 0.13, "extractor": 0.15, "base": 0.42, "fine_tuning": 0.30}
"""Of the budget, by the recipe's names; fine-tuning's is that of all models together."""
MARGIN = 0.9
"""Of a stage's time that its steps may fill: data, encoding and files take the rest."""
FEWEST_STEPS = 20


@dataclass(kw_only=True)
class BudgetedBuild:
    """One build of ``recipe``, whose steps are replaced by those that fit."""

    recipe: Recipe
    run: Path
    output: Path
    device: str
    seconds: float
    """Wall-clock budget of everything that is trained."""
    probe_steps: int = 40
    """Steps that a network's speed is measured on; the first half, with its compilation, does not count."""
    on_progress: OnProgress = unheard
    on_report: Callable[[dict[str, Any]], Any] = dict
    """Told the report so far after every stage."""
    report: dict[str, Any] = field(default_factory=dict)
    """JSON-serialisable: the device, and of every finished stage its speed, steps, samples and seconds."""

    def everything(self) -> dict[str, Any]:
        """All stages; returns the report."""
        self._began = time.monotonic()
        self.report |= {"device": device_name(self.device), "budget_seconds": self.seconds, "stages": {}}
        self._stage("autoencoder", self._time_autoencoder, lambda: self.build.autoencoder())
        self._stage("extractor", self._time_extractor, lambda: self.build.extractor())
        self._stage("base", self._time_base, lambda: self.build.base())
        counts = (0, *self.recipe.poisoned_concept_counts)
        self._stage("fine_tuning", self._time_fine_tuning, lambda: self.build.all_fine_tuned(), runs=len(counts))
        self.report["models"] = [model_name(count) for count in counts]
        return self.report

    @property
    def build(self) -> WorldBuild:
        """The build of the recipe as it stands."""
        return WorldBuild(
            recipe=self.recipe, run=self.run, output=self.output, device=self.device, on_progress=self.on_progress
        )

    def _stage(self, name: str, measure: Callable[[], float], make: Callable[[], Any], runs: int = 1) -> None:
        began, left = time.monotonic(), self.seconds - (time.monotonic() - self._began)
        if left <= 0:
            raise ValueError(f"the budget of {self.seconds:.0f} s was spent before {name}: expected a longer one")
        waiting = [share for each, share in SHARES.items() if each not in self.report["stages"]]
        mine = left * SHARES[name] / sum(waiting)
        step = measure()
        measured = time.monotonic() - began
        fitting = int(MARGIN * (mine - measured) / (step * runs))
        steps = min(self._config(name).steps, max(FEWEST_STEPS, fitting))
        config = _with_steps(self._config(name), steps)
        self.recipe = replace(self.recipe, **{name: (config,) if name == "base" else config})
        self.on_progress(note(f"{name}: {1 / step:.1f} steps/s, {steps} steps in {mine:.0f} s"))
        make()
        self.report["stages"][name] = {
            "seconds_per_step": step, "seconds_to_measure": measured, "steps": steps, "batch_size": config.batch_size,
            "samples": steps * config.batch_size, "runs": runs, "seconds": time.monotonic() - began,
            "training": asdict(config),
        }  # fmt: skip
        self.on_report(self.report)

    def _config(self, name: str) -> TrainingConfig:
        """A stage's training; the base's phases are one here, whose warm restarts a known end makes needless."""
        found = getattr(self.recipe, name)
        return found[0] if name == "base" else found

    def _time_autoencoder(self) -> float:
        recipe = self.recipe
        network = AutoencoderLoss(build_autoencoder(recipe.autoencoder_channels), 0.0)
        task = AutoencoderTask(recipe.world(), network, 2 * recipe.autoencoder.batch_size, recipe.seed)
        return self._seconds_per_step(task, recipe.autoencoder)

    def _time_extractor(self) -> float:
        recipe, world = self.recipe, self.recipe.world()
        tokenizer = make_tokenizer(world, recipe.context_length)
        network = ContrastiveLoss(build_clip(small_clip_config(len(tokenizer), recipe.context_length)))
        pairs = draw_pairs(world, 2 * recipe.extractor.batch_size, np.random.default_rng(recipe.seed))
        return self._seconds_per_step(ExtractorTask(world, network, tokenizer, pairs), recipe.extractor)

    def _time_base(self) -> float:
        return self._time_denoiser(self.recipe.base[0], self.build.base_set())

    def _time_fine_tuning(self) -> float:
        return self._time_denoiser(self.recipe.fine_tuning, self.build.pair_set(0))

    def _time_denoiser(self, config: TrainingConfig, pairs: PairSet) -> float:
        """Encodes the set on the way, for the training that follows."""
        encoders = self.build.encoders()
        unet = build_denoiser(self.recipe.denoiser_channels, encoders.text_encoder.config.hidden_size)
        with tempfile.TemporaryDirectory() as scratch:
            train_denoiser(
                unet, build_scheduler(), pairs, encoders, self._probe(config), Path(scratch), start="timed",
                cache=self.run / "encoded", device=self.device,
            )  # fmt: skip
            return _last_seconds_per_step(Path(scratch))

    def _seconds_per_step(self, task: Any, config: TrainingConfig) -> float:
        with tempfile.TemporaryDirectory() as scratch:
            train(task, self._probe(config), Path(scratch), identity={"timed": True}, device=self.device)
            return _last_seconds_per_step(Path(scratch))

    def _probe(self, config: TrainingConfig) -> TrainingConfig:
        steps = self.probe_steps
        return replace(config, steps=steps, warmup_steps=steps, log_every=steps // 2, checkpoint_every=steps)


def _with_steps(config: TrainingConfig, steps: int) -> TrainingConfig:
    """As long, with a warm-up of at most a twentieth, and few checkpoints: what is cut off is not gone on with."""
    return replace(
        config, steps=steps, warmup_steps=max(1, min(config.warmup_steps, steps // 20)),
        checkpoint_every=max(1, steps // 2),
    )  # fmt: skip


def _last_seconds_per_step(folder: Path) -> float:
    return json.loads((folder / METRICS_NAME).read_text(encoding="utf-8").splitlines()[-1])["seconds_per_step"]
