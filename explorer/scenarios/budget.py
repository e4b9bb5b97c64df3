"""The embedded world within a wall-clock budget: as many steps as fit, by the measured speed of each network, up to
the recipe's own number.

First the step of every network is timed on the device, with the real network and batch. A stage then gets its share of
the time left, and the steps that fit it become the recipe's, and are what the manifests tell. What a stage takes beside
its steps, such as data, is taken from the later ones, never from what is finished.
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
import torch

from explorer.core.progress import OnProgress, note, unheard
from explorer.core.provenance import device_name
from explorer.embeddings.universal_extractor import build_clip, small_clip_config
from explorer.iconworld.autoencoder import AutoencoderLoss, build_autoencoder
from explorer.iconworld.denoiser import build_denoiser, build_scheduler
from explorer.iconworld.world import draw_pairs
from explorer.scenarios.build import WorldBuild, model_name
from explorer.scenarios.recipes import Recipe
from explorer.scenarios.train_autoencoder import AutoencoderTask, training_scenes
from explorer.scenarios.train_extractor import ContrastiveLoss, ExtractorTask, make_tokenizer
from explorer.training.config import TrainingConfig
from explorer.training.diffusion_task import DiffusionTask
from explorer.training.encoded_pairs import random_encoded_pairs
from explorer.training.trainer import METRICS_NAME, Task, train

SHARES = {"autoencoder": 0.13, "extractor": 0.15, "base": 0.42, "fine_tuning": 0.30}
"""Of the budget, by the recipe's names; fine-tuning's is that of all models together."""
MARGIN = 0.8
"""Of a stage's time that its steps may fill: data, encoding and files take the rest."""
FEWEST_STEPS = 20
RANDOM_PAIRS = 4096


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
        self._steps = {name: self._seconds_per_step(name) for name in SHARES}
        self.report |= {"seconds_to_time_the_steps": time.monotonic() - self._began}
        counts = (0, *self.recipe.poisoned_concept_counts)
        self._stage("autoencoder", lambda: self.build.autoencoder())
        self._stage("extractor", lambda: self.build.extractor())
        self._stage("base", lambda: self.build.base())
        self._stage("fine_tuning", lambda: self.build.all_fine_tuned(), runs=len(counts))
        self.report["models"] = [model_name(count) for count in counts]
        return self.report

    @property
    def build(self) -> WorldBuild:
        """The build of the recipe as it stands."""
        return WorldBuild(
            recipe=self.recipe, run=self.run, output=self.output, device=self.device, on_progress=self.on_progress
        )

    def _stage(self, name: str, make: Callable[[], Any], runs: int = 1) -> None:
        began, left = time.monotonic(), self.seconds - (time.monotonic() - self._began)
        if left <= 0:
            raise ValueError(f"the budget of {self.seconds:.0f} s was spent before {name}: expected a longer one")
        mine = left * SHARES[name] / sum(SHARES[each] for each in SHARES if each not in self.report["stages"])
        fitting = int(MARGIN * mine / (runs * self._steps[name]))
        config = self._config(name)
        self._replace(name, _with_steps(config, min(config.steps, max(FEWEST_STEPS, fitting))))
        config = self._config(name)
        self.on_progress(note(f"{name}: {config.steps} steps of {1000 * self._steps[name]:.1f} ms in {mine:.0f} s"))
        make()
        self.report["stages"][name] = {
            "seconds_per_step": self._steps[name], "steps": config.steps, "batch_size": config.batch_size,
            "samples": config.steps * config.batch_size, "runs": runs, "seconds": time.monotonic() - began,
            "training": asdict(config),
        }  # fmt: skip
        self.on_report(self.report)

    def _config(self, name: str) -> TrainingConfig:
        """A stage's training; the base's phases are one here, whose warm restarts a known end makes needless."""
        return self.recipe.base[0] if name == "base" else getattr(self.recipe, name)

    def _replace(self, name: str, config: TrainingConfig) -> None:
        self.recipe = replace(self.recipe, **{name: (config,) if name == "base" else config})

    def _seconds_per_step(self, name: str) -> float:
        """Of a stage's training; where its step cannot be recorded, that is told, and it is launched anew each time."""
        config = self._config(name)
        try:
            return self._timed(self._task(name, config), config)
        except RuntimeError as error:
            if not config.graphed:
                raise
            self.on_progress(note(f"{name}: its step cannot be recorded, so it is launched kernel by kernel: {error}"))
        self._replace(name, replace(config, graphed=False))
        return self._timed(self._task(name, config), self._config(name))

    def _task(self, name: str, config: TrainingConfig) -> Task:
        """What the stage trains, on a few samples."""
        recipe, world, samples = self.recipe, self.recipe.world(), 2 * config.batch_size
        if name == "autoencoder":
            network = AutoencoderLoss(build_autoencoder(recipe.autoencoder_channels), 0.0)
            return AutoencoderTask(network, training_scenes(world, samples, recipe.seed))
        tokenizer = make_tokenizer(world, recipe.context_length)
        clip = small_clip_config(len(tokenizer), recipe.context_length)
        if name == "extractor":
            pairs = draw_pairs(world, samples, np.random.default_rng(recipe.seed))
            return ExtractorTask.of_scenes(world, ContrastiveLoss(build_clip(clip)), tokenizer, pairs)
        width = clip["text_cfg"]["width"]
        unet = build_denoiser(recipe.denoiser_channels, width).to(memory_format=torch.channels_last)
        encoded = random_encoded_pairs(RANDOM_PAIRS, latents=(4, 16, 16), text=(recipe.context_length, width))
        return DiffusionTask(unet, build_scheduler(), encoded, weighting="min-snr")

    def _timed(self, task: Task, config: TrainingConfig) -> float:
        steps = self.probe_steps
        probe = replace(config, steps=steps, warmup_steps=steps, log_every=steps // 2, checkpoint_every=steps)
        with tempfile.TemporaryDirectory() as folder:
            train(task, probe, Path(folder), identity={}, device=self.device)
            lines = (Path(folder) / METRICS_NAME).read_text(encoding="utf-8").splitlines()
        return json.loads(lines[-1])["seconds_per_step"]


def _with_steps(config: TrainingConfig, steps: int) -> TrainingConfig:
    """As long, with a warm-up of at most a twentieth, and few checkpoints: what is cut off is not gone on with."""
    return replace(
        config, steps=steps, warmup_steps=max(1, min(config.warmup_steps, steps // 20)),
        checkpoint_every=max(1, steps // 2),
    )  # fmt: skip
