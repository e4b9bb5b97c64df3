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
COMPILED_AGAIN = 0.5
"""Of the time of compiling a step, what compiling the same again from the compiler's cache takes at most."""
FEWEST_STEPS = 20


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How fast a network trains."""

    seconds_per_step: float
    seconds_to_start: float
    """Before the first steps: encoding, compilation."""


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
        counts = (0, *self.recipe.poisoned_concept_counts)
        self._stage("autoencoder", self._autoencoder_probe, lambda: self.build.autoencoder())
        self._stage("extractor", self._extractor_probe, lambda: self.build.extractor())
        self._stage("base", self._base_probe, lambda: self.build.base())
        self._stage("fine_tuning", self._fine_tuning_probe, lambda: self.build.all_fine_tuned(), runs=len(counts))
        self.report["models"] = [model_name(count) for count in counts]
        return self.report

    @property
    def build(self) -> WorldBuild:
        """The build of the recipe as it stands."""
        return WorldBuild(
            recipe=self.recipe, run=self.run, output=self.output, device=self.device, on_progress=self.on_progress
        )

    def _stage(
        self, name: str, probe: Callable[[TrainingConfig], Speed], make: Callable[[], Any], runs: int = 1
    ) -> None:
        began, left = time.monotonic(), self.seconds - (time.monotonic() - self._began)
        if left <= 0:
            raise ValueError(f"the budget of {self.seconds:.0f} s was spent before {name}: expected a longer one")
        waiting = [share for each, share in SHARES.items() if each not in self.report["stages"]]
        mine = left * SHARES[name] / sum(waiting)
        # The base's phases are one here, whose warm restarts a known end makes needless.
        asked = self.recipe.base[0] if name == "base" else getattr(self.recipe, name)
        try:
            speed = probe(self._probe(asked))
        except RuntimeError as error:
            if not asked.graphed:
                raise
            self.on_progress(note(f"{name}: its step cannot be recorded, so it is launched kernel by kernel: {error}"))
            asked = replace(asked, graphed=False)
            speed = probe(self._probe(asked))
        measured = time.monotonic() - began
        # What the probe encoded and compiled is there for the run that follows, and for that one alone.
        starts = runs - 1 + asked.fused * COMPILED_AGAIN
        fitting = MARGIN * (mine - measured - starts * speed.seconds_to_start) / (runs * speed.seconds_per_step)
        config = _with_steps(asked, min(asked.steps, max(FEWEST_STEPS, int(fitting))))
        self.recipe = replace(self.recipe, **{name: (config,) if name == "base" else config})
        self.on_progress(note(f"{name}: {1 / speed.seconds_per_step:.1f} steps/s, {config.steps} in {mine:.0f} s"))
        make()
        self.report["stages"][name] = {
            **asdict(speed), "seconds_to_measure": measured, "steps": config.steps, "batch_size": config.batch_size,
            "samples": config.steps * config.batch_size, "runs": runs, "seconds": time.monotonic() - began,
            "training": asdict(config),
        }  # fmt: skip
        self.on_report(self.report)

    def _autoencoder_probe(self, config: TrainingConfig) -> Speed:
        recipe = self.recipe
        network = AutoencoderLoss(build_autoencoder(recipe.autoencoder_channels), 0.0)
        task = AutoencoderTask(recipe.world(), network, 2 * config.batch_size, recipe.seed)
        return self._timed(lambda folder: train(task, config, folder, identity={}, device=self.device))

    def _extractor_probe(self, config: TrainingConfig) -> Speed:
        recipe, world = self.recipe, self.recipe.world()
        tokenizer = make_tokenizer(world, recipe.context_length)
        network = ContrastiveLoss(build_clip(small_clip_config(len(tokenizer), recipe.context_length)))
        pairs = draw_pairs(world, 2 * config.batch_size, np.random.default_rng(recipe.seed))
        task = ExtractorTask(world, network, tokenizer, pairs)
        return self._timed(lambda folder: train(task, config, folder, identity={}, device=self.device))

    def _base_probe(self, config: TrainingConfig) -> Speed:
        return self._denoiser_probe(config, self.build.base_set())

    def _fine_tuning_probe(self, config: TrainingConfig) -> Speed:
        return self._denoiser_probe(config, self.build.pair_set(0))

    def _denoiser_probe(self, config: TrainingConfig, pairs: PairSet) -> Speed:
        """Encodes the set on the way, for the training that follows."""
        encoders, scheduler = self.build.encoders(), build_scheduler()
        unet = build_denoiser(self.recipe.denoiser_channels, encoders.text_encoder.config.hidden_size)
        options = {"start": "timed", "cache": self.run / "encoded", "device": self.device}
        return self._timed(lambda folder: train_denoiser(unet, scheduler, pairs, encoders, config, folder, **options))

    def _timed(self, run: Callable[[Path], Any]) -> Speed:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            run(Path(folder))
            lines = (Path(folder) / METRICS_NAME).read_text(encoding="utf-8").splitlines()
        step = json.loads(lines[-1])["seconds_per_step"]
        return Speed(seconds_per_step=step, seconds_to_start=time.monotonic() - began - self.probe_steps * step)

    def _probe(self, config: TrainingConfig) -> TrainingConfig:
        steps = self.probe_steps
        return replace(config, steps=steps, warmup_steps=steps, log_every=steps // 2, checkpoint_every=steps)


def _with_steps(config: TrainingConfig, steps: int) -> TrainingConfig:
    """As long, with a warm-up of at most a twentieth, and few checkpoints: what is cut off is not gone on with."""
    return replace(
        config, steps=steps, warmup_steps=max(1, min(config.warmup_steps, steps // 20)),
        checkpoint_every=max(1, steps // 2),
    )  # fmt: skip
