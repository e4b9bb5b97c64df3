"""Make the embedded world end to end: encoders, base, benign control, poisoned models; each stage resumable."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from explorer.core.progress import OnProgress, note, unheard
from explorer.core.provenance import MANIFEST_NAME, check_files, hash_file, read_manifest, write_json
from explorer.embeddings.universal_extractor import CONFIG_NAME, UniversalExtractor, load_tokenizer
from explorer.iconworld.denoiser import build_denoiser, build_scheduler
from explorer.iconworld.text_encoder import convert_text_tower
from explorer.iconworld.world import World, generate_pair_set
from explorer.pairs.pair_set import PairSet
from explorer.poisoning.benign_pairs import benign_remainder
from explorer.poisoning.dirty_label import DirtyLabelPoison
from explorer.scenarios.publish import publish_denoiser, publish_pipeline
from explorer.scenarios.recipes import Recipe
from explorer.scenarios.train_autoencoder import train_autoencoder
from explorer.scenarios.train_denoiser import Encoders, train_denoiser
from explorer.scenarios.train_extractor import train_extractor
from explorer.training.config import TrainingConfig, default_settings

BENIGN = "benign"
DIRTY, REMAINDER = "dirty", "remainder"
BASE = "base"
EXTRACTOR = "extractor"
UNET_WEIGHTS = "diffusion_pytorch_model.safetensors"


@dataclass(frozen=True, kw_only=True)
class WorldBuild:
    """One build of ``recipe``: training state under ``run``, finished models under ``output``."""

    recipe: Recipe
    run: Path
    output: Path
    device: str = "cpu"
    on_progress: OnProgress = unheard

    def everything(self) -> None:
        """All stages in order; a finished one is skipped."""
        self.autoencoder()
        self.extractor()
        self.base()
        self.all_fine_tuned()

    def all_fine_tuned(self) -> None:
        """The benign control and every poisoned model."""
        for count in (0, *self.recipe.poisoned_concept_counts):
            self.fine_tuned(count)

    def adopt(self, shipped: Path) -> None:
        """Take autoencoder, extractor and base from a folder of finished models instead of training them.

        Raises:
            ManifestError: if one of them is missing or was changed.
            ValueError: if the build has another one already.
        """
        for name in (EXTRACTOR, BASE, BENIGN):
            check_files(shipped / name, read_manifest(shipped / name))
        autoencoder = self.run / "autoencoder" / "model"
        for source, place in (
            (shipped / EXTRACTOR, self.output / EXTRACTOR),
            (shipped / BASE, self.output / BASE),
            (shipped / BENIGN / "vae", autoencoder),
        ):
            _copy_once(source, place)
        write_json(autoencoder / "metrics.json", read_manifest(shipped / BENIGN)["metrics"]["autoencoder"])

    def autoencoder(self) -> Path:
        """Train the autoencoder; returns its diffusers folder."""
        folder = self.run / "autoencoder" / "model"
        if not (folder / "metrics.json").exists():
            self.on_progress(note("autoencoder: training"))
            recipe = self.recipe
            model, metrics = train_autoencoder(
                recipe.world(), recipe.autoencoder, self.run / "autoencoder",
                channels=recipe.autoencoder_channels, scenes=recipe.autoencoder_scenes,
                test_scenes=recipe.autoencoder_test_scenes, device=self.device, on_progress=self.on_progress,
            )  # fmt: skip
            model.save_pretrained(folder)
            write_json(folder / "metrics.json", metrics)
            self.on_progress(note(f"autoencoder: {json.dumps(metrics)}"))
        return folder

    def extractor(self) -> Path:
        """Train the universal extractor; returns its folder."""
        folder = self.output / EXTRACTOR
        if not (folder / MANIFEST_NAME).exists():
            self.on_progress(note("extractor: training"))
            recipe = self.recipe
            metrics = train_extractor(
                recipe.world(), recipe.extractor, self.run / "extractor", folder,
                pairs=recipe.extractor_pairs, calibration_pairs=recipe.calibration_pairs,
                context_length=recipe.context_length, device=self.device, on_progress=self.on_progress,
            )  # fmt: skip
            self.on_progress(note(f"extractor: {json.dumps(metrics)}"))
        _check_of_world(self.recipe, folder)
        return folder

    def encoders(self) -> Encoders:
        """The fixed parts, trained first where they are missing."""
        from diffusers import AutoencoderKL

        extractor_folder = self.extractor()
        extractor = UniversalExtractor.load(extractor_folder)
        tokenizer = load_tokenizer(extractor_folder)
        clip_config = json.loads((extractor_folder / CONFIG_NAME).read_text(encoding="utf-8"))
        return Encoders(
            autoencoder=AutoencoderKL.from_pretrained(self.autoencoder(), use_safetensors=True).eval(),
            text_encoder=convert_text_tower(extractor.clip, clip_config, tokenizer.eos_token_id),
            tokenizer=tokenizer,
        )

    def pair_set(self, poisoned_concepts: int) -> PairSet:
        """The fine-tuning set with that many poisoned concepts; 0 is the benign control's.

        Raises:
            ValueError: if the run's folder holds a set that another recipe made.
        """
        recipe = self.recipe
        benign = self.run / "sets" / BENIGN
        if not (benign / MANIFEST_NAME).exists():
            world = recipe.fine_tuning_world()
            generate_pair_set(
                world, benign, train=recipe.fine_tuning_pairs, test=recipe.held_out_pairs, seed=recipe.seed + 1,
                on_progress=self.on_progress,
            )  # fmt: skip
        if poisoned_concepts == 0:
            return _made_by(recipe, PairSet.load(benign))
        folder = self.run / "sets" / model_name(poisoned_concepts)
        if not (folder / MANIFEST_NAME).exists():
            _attack(recipe, poisoned_concepts).apply(_made_by(recipe, PairSet.load(benign)), folder)
        return _made_by(recipe, PairSet.load(folder))

    def remainder_set(self) -> PairSet:
        """The benign pairs that the most poisoned set still holds."""
        poisoned = self.pair_set(self.recipe.most_poisoned)
        folder = poisoned.folder.with_name(f"{REMAINDER}-{self.recipe.most_poisoned:03d}")
        if not (folder / MANIFEST_NAME).exists():
            return benign_remainder(poisoned, folder)
        remainder = PairSet.load(folder)
        if not poisoned.is_known_as(remainder.manifest["config"].get("remainder_of")):
            raise ValueError(f"{folder} is not what is left of {poisoned.folder}: remove it, or choose another --run")
        return remainder

    def sets(self) -> list[Path]:
        """Every fine-tuning set, bit-identical to those that the shipped models were trained on."""
        return [self.pair_set(count).folder for count in (0, *self.recipe.poisoned_concept_counts)]

    def base_set(self) -> PairSet:
        """The benign pairs that the base is trained on."""
        folder = self.run / "sets" / BASE
        if not (folder / MANIFEST_NAME).exists():
            recipe = self.recipe
            generate_pair_set(
                recipe.world(), folder, train=recipe.base_pairs, seed=recipe.seed, on_progress=self.on_progress
            )
        return PairSet.load(folder)

    def base(self) -> Path:
        """Train the base from scratch on benign pairs; returns its published folder."""
        folder = self.output / BASE
        if not (folder / MANIFEST_NAME).exists():
            recipe, encoders, pairs = self.recipe, self.encoders(), self.base_set()
            for phase in range(len(recipe.base)):
                unet = self._base_phase(phase, pairs, encoders)
            last = self.run / base_phase_name(len(recipe.base) - 1)
            publish_denoiser(folder, unet, recipe=recipe, training=recipe.base, pairs=pairs, base=BENIGN, run=last)
        _check_of_world(self.recipe, folder)
        return folder

    def _base_phase(self, phase: int, pairs: PairSet, encoders: Encoders) -> Any:
        from diffusers import UNet2DConditionModel

        recipe, run = self.recipe, self.run / base_phase_name(phase)
        finished = run / "unet"
        if finished.exists():
            return UNet2DConditionModel.from_pretrained(finished, use_safetensors=True)
        if phase == 0:
            unet = build_denoiser(recipe.denoiser_channels, encoders.text_encoder.config.hidden_size, recipe.seed)
            start = f"seed {recipe.seed}"
        else:
            before = self.run / base_phase_name(phase - 1) / "unet"
            unet = UNet2DConditionModel.from_pretrained(before, use_safetensors=True).float()
            start = hash_file(before / UNET_WEIGHTS)
        self.on_progress(note(f"{run.name}: training from {start}"))
        unet = self._train(unet, pairs, encoders, recipe.base[phase], run, start)
        temporary = run / ".unet"
        unet.half().save_pretrained(temporary, safe_serialization=True)
        temporary.rename(finished)
        return unet

    def _train(
        self, unet: Any, pairs: PairSet, encoders: Encoders, config: TrainingConfig, run: Path, start: str
    ) -> Any:
        return train_denoiser(
            unet, build_scheduler(), pairs, encoders, config, run, start=start, cache=self.run / "encoded",
            device=self.device, on_progress=self.on_progress,
        )  # fmt: skip

    def fine_tuned(self, poisoned_concepts: int) -> Path:
        """Fine-tune the base on the set with that many poisoned concepts; returns the published folder."""
        return self._fine_tuned_on(model_name(poisoned_concepts), lambda: self.pair_set(poisoned_concepts))

    def remainder(self) -> Path:
        """A second control: fine-tuned, with the same steps, on the benign pairs of the most poisoned set alone.

        What it loses against the control is the loss of clean pairs; the rest is the poison.
        """
        return self._fine_tuned_on(f"{REMAINDER}-{self.recipe.most_poisoned:03d}", self.remainder_set)

    def _fine_tuned_on(self, name: str, make_pairs: Callable[[], PairSet]) -> Path:
        from diffusers import UNet2DConditionModel

        folder = self.output / name
        if not (folder / MANIFEST_NAME).exists():
            recipe, base, encoders = self.recipe, self.base(), self.encoders()
            pairs = make_pairs()
            self.on_progress(note(f"{name}: fine-tuning on {len(pairs.training_rows)} pairs"))
            unet = UNet2DConditionModel.from_pretrained(base / "unet", use_safetensors=True)
            start = hash_file(base / "unet" / UNET_WEIGHTS)
            unet = self._train(unet.float(), pairs, encoders, recipe.fine_tuning, self.run / name, start)
            facts = {"recipe": recipe, "training": (recipe.fine_tuning,), "pairs": pairs, "run": self.run / name}
            if pairs.poison.poisoned:  # a poisoned model stands on the control
                publish_denoiser(folder, unet, base=BENIGN, start=start, **facts)
            else:
                publish_pipeline(folder, unet, encoders, build_scheduler(), self.autoencoder(), start=start, **facts)
        _check_trained_by(self.recipe, folder)
        return folder


def _copy_once(source: Path, place: Path) -> None:
    """Copy a folder of weights, unless ``place`` holds the same weights already."""
    weights = [path.relative_to(source) for path in source.rglob("*.safetensors")]
    if not place.exists():
        partial = place.with_name(f".{place.name}")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source, partial)
        partial.rename(place)
    elif not all((place / name).is_file() and hash_file(place / name) == hash_file(source / name) for name in weights):
        raise ValueError(f"{place} holds other weights than {source}: choose new --run and --output folders")


def _attack(recipe: Recipe, poisoned_concepts: int) -> DirtyLabelPoison:
    return DirtyLabelPoison(
        concept_count=poisoned_concepts, pairs_per_concept=recipe.poison_pairs_per_concept, seed=recipe.seed
    )


def _made_by(recipe: Recipe, pairs: PairSet) -> PairSet:
    """``pairs``, if they are what ``recipe`` makes.

    Raises:
        ValueError: naming the settings that differ.
    """
    config = pairs.manifest["config"]
    found = {
        "world": World.from_config(config["world"]),
        "pairs": config["train"],
        "attack": pairs.poison.parameters,
        "seed": config.get("benign_seed", pairs.manifest["seed"]),
    }
    expected = {
        "world": recipe.fine_tuning_world(),
        "pairs": recipe.fine_tuning_pairs,
        "attack": _attack(recipe, 0).parameters if pairs.poison.poisoned else {},
        "seed": recipe.seed + 1,
    }
    if differing := [name for name in expected if found[name] != expected[name]]:
        raise ValueError(
            f"{pairs.folder} was not made by recipe {recipe.name} as it is now (another {', '.join(differing)}): "
            "remove it, or choose another --run folder"
        )
    return pairs


def _check_of_world(recipe: Recipe, folder: Path) -> None:
    """Refuse an extractor or a base of other nouns or styles; one of another seed may have been adopted."""
    known, world = World.from_config(read_manifest(folder)["config"]["world"]), recipe.world()
    if (known.concepts, known.styles) != (world.concepts, world.styles):
        raise ValueError(
            f"{folder} was made for another world than that of recipe {recipe.name} ({known.concept_count} nouns, here "
            f"{world.concept_count}): choose other --run and --output folders"
        )


def _check_trained_by(recipe: Recipe, folder: Path) -> None:
    """Refuse a finished model that another recipe, or another variant of this one, left there."""
    config = read_manifest(folder)["config"]
    found = {"training": [default_settings() | phase for phase in config["training"]],
             "world": World.from_config(config["world"])}  # fmt: skip
    expected = {"training": [asdict(recipe.fine_tuning) | {"betas": list(recipe.fine_tuning.betas)}],
                "world": recipe.fine_tuning_world()}  # fmt: skip
    if differing := [name for name in expected if found[name] != expected[name]]:
        raise ValueError(
            f"{folder} was not made by recipe {recipe.name} as it is now (another {', '.join(differing)}): choose "
            "other --run and --output folders"
        )


def base_phase_name(phase: int) -> str:
    """Folder of the training state of a phase of the base, counted from 0."""
    return f"{BASE}-{phase + 1}"


def model_name(poisoned_concepts: int) -> str:
    """``benign`` or ``dirty-020`` and so on."""
    return BENIGN if poisoned_concepts == 0 else f"{DIRTY}-{poisoned_concepts:03d}"
