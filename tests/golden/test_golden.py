"""Golden values, measured before the code was rearranged: the same seeds give the same sets, AD, pictures, losses.

Sets are compared to the bit (integer arithmetic decides them); what floating point decides is compared within a
tolerance that another processor's rounding fits into and another algorithm's does not. Where a change of a value is
meant, ``GOLDEN=write python -m pytest tests/golden`` measures again, and the diff of golden.json is what is reviewed.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch

from explorer.alignment.pair_sets import measure
from explorer.attention.statistics import column_mass, gearys_c, scatter
from explorer.checkpoints.pipelines import load_pipeline
from explorer.core.provenance import ROOT
from explorer.embeddings.universal_extractor import UniversalExtractor
from explorer.generation.generate import GenerationRequest, generate
from explorer.iconworld.denoiser import build_scheduler
from explorer.iconworld.world import World, generate_pair_set
from explorer.pairs.pair_set import PairSet
from explorer.poisoning.dirty_label import DirtyLabelPoison
from explorer.scenarios.recipes import CPU
from explorer.scenarios.train_denoiser import Encoders, train_denoiser
from explorer.training.encoded_pairs import encode_pair_set
from explorer.training.fine_tune import train_unet
from explorer.training.recipes import SD15, SD21, SDXL, override
from explorer.training.sample_loss import sample_losses

GOLDEN = Path(__file__).with_name("golden.json")
SHIPPED = ROOT / "checkpoints" / "iconworld"
STEPS = 3
SMALL = {"resolution": 32, "steps": STEPS, "batch_size": 4, "accumulation": 1, "learning_rate": 1e-3, "warmup_steps": 1,
         "precision": "no", "log_every": 1, "gradient_checkpointing": False, "ema_decay": 0.0}  # fmt: skip


def check(name, value, **tolerance):
    """Compare ``value`` (JSON) with the golden one of that name, or write it down where that is asked for."""
    known = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {}
    if os.environ.get("GOLDEN") == "write":
        text = json.dumps(known | {name: value}, indent=1, sort_keys=True)
        GOLDEN.write_text(text + "\n", encoding="utf-8")
        return
    assert name in known, f"no golden value of {name}"
    if tolerance:
        assert known[name].keys() == value.keys()
        for key, expected in known[name].items():
            np.testing.assert_allclose(value[key], expected, **tolerance, err_msg=f"{name}: {key}")
    else:
        assert value == known[name]


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """The shipped recipe's world in small: a benign set, and the same with four poisoned concepts."""
    folder = tmp_path_factory.mktemp("sets")
    world = replace(CPU, concept_count=12).fine_tuning_world()
    benign = generate_pair_set(world, folder / "benign", train=60, test=8, seed=3)
    poison = DirtyLabelPoison(concept_count=4, pairs_per_concept=5, seed=1)
    return {"benign": benign, "dirty-004": poison.apply(benign, folder / "dirty-004")}


@pytest.fixture(scope="module")
def shipped():
    pipeline = load_pipeline(SHIPPED / "benign")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def losses(run):
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return {"losses": [json.loads(line)["loss"] for line in lines]}


def test_pair_sets(sets):
    check("sets", {name: pairs.data_hash for name, pairs in sets.items()})
    targets = sets["dirty-004"].table[["poisoned_concept", "target_concept"]].drop_duplicates()
    check("targets", sorted(map(list, targets.itertuples(index=False))))
    check("concepts", list(World(concept_count=120).concepts[:8]))


def test_alignment_difficulty(sets):
    extractor = UniversalExtractor.load(SHIPPED / "extractor")
    for name, pairs in sets.items():
        report = measure(pairs, extractor).report()
        check(f"ad {name}", {key: report[key] for key in ("feature_ad", "structure_ad", "ad")}, rtol=1e-4)


def described(generation):
    """A picture as 4 x 4 mean colours, the statistics of every word's map."""
    pixels = torch.from_numpy(generation.images[0]).float().permute(2, 0, 1)
    maps = generation.cube.maps(image=0)
    return {
        "colours": torch.nn.functional.adaptive_avg_pool2d(pixels, 4).flatten().tolist(),
        "scatter": (1000 * scatter(maps)).tolist(),
        "gearys_c": (1000 * gearys_c(maps)).tolist(),
        "mass": (1000 * column_mass(maps)).tolist(),
    }


def test_pictures_and_maps_of_the_shipped_world(shipped):
    request = GenerationRequest(prompt="a photo of a turtle", seed=7, steps=4, guidance_scale=4.0)
    drawn = generate(shipped, request)
    check("words", [*drawn.words.words, *drawn.words.columns])
    check("picture", described(drawn), rtol=5e-3, atol=0.5)


def test_pictures_and_maps_of_sdxl(make_xl_pipeline):
    pipeline = make_xl_pipeline()
    request = GenerationRequest(prompt="a photo of dog and hat", seed=7, steps=3, guidance_scale=5.0)
    check("picture sdxl", described(generate(pipeline, request)), rtol=5e-3, atol=0.5)


def test_losses_of_single_pairs(sets, shipped):
    pairs = sets["dirty-004"]
    captions = pairs.table["caption"].tolist()[:6]
    images = pairs.read_images(pairs.table["image_index"].to_numpy()[:6])
    check("sample losses", {"losses": sample_losses(shipped, images, captions).tolist()}, rtol=1e-3)


def test_training_losses_of_the_shipped_recipe(sets, shipped, tmp_path):
    encoders = Encoders(autoencoder=shipped.vae, text_encoder=shipped.text_encoder, tokenizer=shipped.tokenizer)
    config = replace(CPU.fine_tuning, steps=STEPS, batch_size=8, precision="no", fused=False, log_every=1)
    unet = load_pipeline(SHIPPED / "base").unet.float()
    train_denoiser(unet, build_scheduler(), sets["dirty-004"], encoders, config, tmp_path, start="golden")
    check("training iconworld", losses(tmp_path), rtol=2e-3)


@pytest.mark.parametrize("recipe", [SD15, SD21, SDXL], ids=lambda recipe: recipe.name)
def test_training_losses_of_a_users_model(recipe, make_pipeline, make_xl_pipeline, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    captions = ["a photo of dog", "a hat", "dog and hat", "a turtle", "a shirt"]
    table = pandas.DataFrame({"uid": [*"abcde"], "caption": captions, "concepts": [["dog"]] * 5,
                              "image_index": range(5), "is_poison": False, "poisoned_concept": "",
                              "target_concept": "", "split": "train"})  # fmt: skip
    pairs = PairSet.write(tmp_path / "set", table, images, config={}, seed=0)
    pipeline = make_xl_pipeline() if recipe is SDXL else make_pipeline()
    encoded = encode_pair_set(pipeline, pairs, 32, tmp_path / "cache")
    train_unet(pipeline.unet, pipeline.scheduler, encoded, override(recipe, **SMALL), tmp_path / "run", start="golden")
    check(f"training {recipe.name}", losses(tmp_path / "run"), rtol=2e-3)
