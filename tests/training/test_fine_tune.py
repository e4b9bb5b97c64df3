import json
import shutil

import numpy as np
import pandas
import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file

from explorer.checkpoints.module_groups import smallest_group
from explorer.checkpoints.module_identity import plain_config
from explorer.checkpoints.pipelines import load_pipeline
from explorer.checkpoints.registry import read_checkpoint, validate
from explorer.core.poison_record import NO_POISON, NOT_RECORDED
from explorer.core.provenance import check_files, read_manifest
from explorer.pairs.pair_set import PairSet
from explorer.training.diffusion_task import DiffusionTask
from explorer.training.encoded_pairs import encode_pair_set
from explorer.training.fine_tune import fine_tune, train_unet
from explorer.training.loss import DiffusionLoss
from explorer.training.recipes import SD15, SD21, SDXL, as_recorded, override
from explorer.training.state import finished_steps

SMALL = {
    "resolution": 64, "steps": 4, "batch_size": 4, "accumulation": 1, "learning_rate": 1e-3, "warmup_steps": 1,
    "precision": "no", "checkpoint_every": 2, "log_every": 1, "gradient_checkpointing": False,
    "ema_decay": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    images = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
    table = pandas.DataFrame(
        {
            "uid": [f"pair-{row}" for row in range(6)],
            "caption": ["a photo of dog", "a hat", "dog and hat", "a turtle", "a shirt", "a photo of hat"],
            "concepts": [["dog"]] * 6,
            "image_index": range(6),
            "is_poison": [True] + [False] * 5,
            "poisoned_concept": ["dog"] + [""] * 5,
            "target_concept": ["hat"] + [""] * 5,
            "split": ["train"] * 6,
        }
    )
    poison = {"kind": "dirty-label", "concepts": 1, "targets": {"dog": "hat"}}
    return PairSet.write(tmp_path_factory.mktemp("set") / "pairs", table, images, config={"poison": poison}, seed=0)


def places(folder):
    return {"run": folder / "run", "cache": folder / "cache"}


def unet_weights(folder):
    return load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")


def test_of_imported_pairs_the_result_does_not_say_that_it_is_benign(make_pipeline, pairs, tmp_path):
    make_pipeline().save_pretrained(tmp_path / "base")
    images = np.asarray(pairs.images)
    imported = PairSet.write(tmp_path / "set", pairs.table, images, config={"poison_recorded": False}, seed=None)
    output = tmp_path / "models" / "tuned <b>"
    fine_tune(tmp_path / "base", imported, override(SD15, **SMALL), output, **places(tmp_path))
    found = read_checkpoint(output)
    assert (found.problem, found.poison) == (None, NOT_RECORDED)
    card = (output / "README.md").read_text()
    assert "of which it is not, or not of all, recorded what is poison" in card
    assert r"# tuned \<b\>" in card
    assert "Distinct captions with words that the tokenizer does not know: 0." in card


def test_captions_with_words_that_the_model_does_not_know_are_told_counted_and_trained_on(
    make_pipeline, pairs, tokenizer_folder, tmp_path
):
    make_pipeline().save_pretrained(tmp_path / "base")
    lexicon = set(json.loads((tokenizer_folder / "lexicon.json").read_text())) - {"hat", "turtle"}
    (tmp_path / "base" / "tokenizer" / "lexicon.json").write_text(json.dumps(sorted(lexicon)))
    told, output = [], tmp_path / "models" / "tuned"
    manifest = fine_tune(
        tmp_path / "base", pairs, override(SD15, **SMALL), output, **places(tmp_path), left_out=["pair-5"],
        on_progress=lambda progress: told.append(progress.message),
    )  # fmt: skip
    words = "3 of 5 distinct captions have words that the model's tokenizer does not know: hat (2), turtle (1)"
    assert words in told
    assert told.index(words) < next(place for place, message in enumerate(told) if ": training for" in message)
    assert manifest["metrics"]["captions_with_unknown_words"] == 3
    card = (output / "README.md").read_text()
    assert "Distinct captions with words that the tokenizer does not know: 3." in card


def test_the_result_is_a_checkpoint_on_its_base(make_pipeline, pairs, tmp_path):
    make_pipeline().save_pretrained(tmp_path / "base")
    output = tmp_path / "models" / "tuned"
    manifest = fine_tune(tmp_path / "base", pairs, override(SD15, **SMALL), output, **places(tmp_path))
    found = validate(read_checkpoint(output), thorough=True)
    assert found.problem is None
    assert found.base.resolve() == tmp_path / "base"
    assert found.poison.names == ("dog",)
    check_files(output, read_manifest(output, kind="checkpoint"))
    assert manifest["config"]["prediction_type"] == "v_prediction"
    assert manifest["data_hash"] == pairs.data_hash
    assert manifest["metrics"]["final_step"] == 4
    tuned, base = load_pipeline(output), load_pipeline(tmp_path / "base")
    assert torch.equal(next(tuned.vae.parameters()), next(base.vae.parameters()))
    # fp16 storage alone changes less than four steps at 1e-3.
    shift = max((a - b).abs().max() for a, b in zip(tuned.unet.parameters(), base.unet.parameters(), strict=True))
    assert shift > 1e-3
    # Stock diffusers draws with it, no precision named.
    stock = StableDiffusionPipeline.from_pretrained(
        tmp_path / "base", unet=UNet2DConditionModel.from_pretrained(output / "unet")
    )
    assert np.isfinite(stock("a dog", num_inference_steps=1, output_type="np").images).all()
    # A finished model is recognised, and another run never overwrites it.
    again = fine_tune(tmp_path / "base", pairs, override(SD15, **SMALL), output, **places(tmp_path))
    assert again["created"] == manifest["created"]
    older = json.loads((output / "manifest.json").read_text())
    del older["config"]["training"][0]["decay_share"]
    (output / "manifest.json").write_text(json.dumps(older))
    again = fine_tune(tmp_path / "base", pairs, override(SD15, **SMALL), output, **places(tmp_path))
    assert again["created"] == manifest["created"], "as published before the setting existed"
    with pytest.raises(ValueError, match="holds a checkpoint with another training: choose a new folder"):
        fine_tune(tmp_path / "base", pairs, override(SD15, **SMALL | {"steps": 5}), output, **places(tmp_path))


def test_only_pairs_that_are_trained_on_are_counted(make_pipeline, pairs, tmp_path):
    make_pipeline().save_pretrained(tmp_path / "base")
    table = pairs.table.assign(split=["train"] * 4 + ["test"] * 2)
    split = PairSet.write(tmp_path / "split", table, np.asarray(pairs.images), config={}, seed=0)
    recipe, output, lines = override(SD15, **SMALL | {"steps": 1}), tmp_path / "tuned", []
    manifest = fine_tune(
        tmp_path / "base",
        split,
        recipe,
        output,
        **places(tmp_path) | {"on_progress": lambda progress: progress.message and lines.append(progress.message)},
    )
    assert manifest["config"]["pairs"] == 4
    assert "tuned: encoding 4 pairs" in lines
    assert "Training data: 4 pairs (" in (output / "README.md").read_text()


def test_pairs_that_are_left_out_leave_no_trace_in_the_weights(make_pipeline, pairs, tmp_path):
    make_pipeline().save_pretrained(tmp_path / "base")
    kept = PairSet.write(tmp_path / "kept", pairs.table.iloc[1:5], np.asarray(pairs.images), config={}, seed=0)
    recipe = override(SD15, **SMALL)
    for name, given, left_out in (("some", pairs, ("pair-0", "pair-5")), ("alone", kept, ())):
        manifest = fine_tune(
            tmp_path / "base", given, recipe, tmp_path / name, run=tmp_path / "run" / name, cache=tmp_path / "cache",
            left_out=left_out,
        )  # fmt: skip
        assert (manifest["config"]["pairs"], manifest["config"]["poison"]["kind"]) == (4, "none")
    some, alone = unet_weights(tmp_path / "some"), unet_weights(tmp_path / "alone")
    assert all(torch.equal(some[name], alone[name]) for name in some)
    with pytest.raises(ValueError, match="such as 'pair-9', are not among the 6 training pairs"):
        fine_tune(tmp_path / "base", pairs, recipe, tmp_path / "new", **places(tmp_path), left_out=["pair-9"])
    with pytest.raises(ValueError, match=r"all 6 training pairs of .* are left out"):
        fine_tune(tmp_path / "base", pairs, recipe, tmp_path / "new", **places(tmp_path), left_out=pairs.table["uid"])


@pytest.mark.parametrize(
    ("parts", "moves"),
    [({"frozen_group": "cross-attention"}, lambda cross: not cross),
     ({"trained_group": "cross-attention"}, lambda cross: cross)],
)  # fmt: skip
def test_a_group_of_modules_is_trained_alone_or_stays_as_it_is(make_pipeline, pairs, tmp_path, parts, moves):
    make_pipeline().save_pretrained(tmp_path / "base")
    output = tmp_path / "tuned"
    manifest = fine_tune(tmp_path / "base", pairs, override(SD15, **SMALL, **parts), output, **places(tmp_path))
    config = json.loads((tmp_path / "base" / "unet" / "config.json").read_text())
    before, moved = unet_weights(tmp_path / "base"), set()
    for name, tensor in unet_weights(output).items():
        cross = smallest_group(name, config).startswith("cross-attention")
        if moves(cross):
            moved.add(not torch.equal(tensor, before[name].half()))
        else:
            assert torch.equal(tensor, before[name].half()), name
    assert True in moved
    assert parts.items() <= manifest["config"].items()
    again = fine_tune(tmp_path / "base", pairs, override(SD15, **SMALL, **parts), output, **places(tmp_path))
    assert again["files"] == manifest["files"]
    with pytest.raises(ValueError, match="another"):
        fine_tune(tmp_path / "base", pairs, override(SD15, **SMALL), output, **places(tmp_path))


def test_how_timesteps_are_drawn_and_weighted_changes_the_weights_and_is_recorded(make_pipeline, pairs, tmp_path):
    make_pipeline().save_pretrained(tmp_path / "base")
    weights = []
    for number, choice in enumerate([{}, {"timesteps": "logit-normal"}, {"weighting": "min-snr"}]):
        output, recipe = tmp_path / f"tuned-{number}", override(SD15, **SMALL, **choice)
        manifest = fine_tune(tmp_path / "base", pairs, recipe, output, **places(tmp_path / str(number)))
        weights.append(torch.cat([tensor.flatten() for tensor in unet_weights(output).values()]))
        assert {"weighting": "uniform", **choice}.items() <= manifest["config"].items()
        assert ("timesteps" in manifest["config"]) == ("timesteps" in choice)
        told = {"timesteps": "uniform", "weighting": "uniform", **choice}
        card = (output / "README.md").read_text()
        assert "- Timesteps: drawn {timesteps}, weighted {weighting}.".format(**told) in card
        assert as_recorded(override(SD15, **SMALL), manifest["config"]) == recipe
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("parts", "reason"),
    [({"trained_group": "cross"}, "has no group 'cross': expected one of cross-attention-keys-values"),
     ({"trained_group": "feed-forward", "frozen_group": "transformer-blocks"}, "expected some of it to be left")],
)  # fmt: skip
def test_a_group_that_is_none_is_refused_before_anything_is_written(make_pipeline, pairs, tmp_path, parts, reason):
    make_pipeline().save_pretrained(tmp_path / "base")
    with pytest.raises(ValueError, match=reason):
        fine_tune(tmp_path / "base", pairs, override(SD15, **SMALL, **parts), tmp_path / "out", **places(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base"]


def test_a_stopped_run_goes_on_to_the_same_weights(make_pipeline, pairs, tmp_path):
    make_pipeline().save_pretrained(tmp_path / "base")
    recipe = override(SD15, **SMALL | {"ema_decay": 0.5})
    fine_tune(tmp_path / "base", pairs, recipe, tmp_path / "whole", **places(tmp_path / "a"))
    stopped = {"should_stop": lambda: True, **places(tmp_path / "b")}
    assert fine_tune(tmp_path / "base", pairs, recipe, tmp_path / "cut", **stopped) is None
    assert finished_steps(tmp_path / "b" / "run") == 1
    assert not (tmp_path / "cut").exists()
    fine_tune(tmp_path / "base", pairs, recipe, tmp_path / "cut", **places(tmp_path / "b"))
    whole, cut = unet_weights(tmp_path / "whole"), unet_weights(tmp_path / "cut")
    assert all(torch.equal(value, cut[name]) for name, value in whole.items())


def test_sd2_and_sdxl_train_by_their_own_recipes(make_pipeline, make_xl_pipeline, pairs, tmp_path):
    make_pipeline(use_linear_projection=True).save_pretrained(tmp_path / "sd2")
    make_xl_pipeline().save_pretrained(tmp_path / "xl")
    for name, recipe, target in (("sd2", SD21, "v_prediction"), ("xl", SDXL, "epsilon")):
        small = override(recipe, **SMALL | {"resolution": 32, "steps": 1})
        manifest = fine_tune(
            tmp_path / name, pairs, small, tmp_path / f"{name}-tuned", **places(tmp_path / f"{name}-x")
        )
        assert manifest["config"]["prediction_type"] == target
        tuned, base = (load_pipeline(tmp_path / folder).unet for folder in (f"{name}-tuned", name))
        assert plain_config(tuned) == plain_config(base)


def test_a_fine_tuned_model_can_be_fine_tuned_again_and_does_not_pass_for_benign(make_pipeline, pairs, tmp_path):
    make_pipeline().save_pretrained(tmp_path / "base")
    recipe = override(SD15, **SMALL | {"steps": 1})
    first = fine_tune(tmp_path / "base", pairs, recipe, tmp_path / "first", **places(tmp_path / "a"))
    output, benign = tmp_path / "deep" / "second", {"left_out": ["pair-0"]}
    second = fine_tune(tmp_path / "first", pairs, recipe, output, **places(tmp_path / "b"), **benign)
    assert second["config"]["start"] != first["config"]["start"]
    found = read_checkpoint(output)
    assert found.base.resolve() == tmp_path / "base"
    assert (str(found.poison), found.poison.names) == ("dirty-label, then benign, C_P = 1", ("dog",))
    assert "after training on poisoned pairs" in (output / "README.md").read_text()
    scratch = override(recipe, from_scratch=True)
    third = fine_tune(tmp_path / "first", pairs, scratch, tmp_path / "third", **places(tmp_path / "c"), **benign)
    assert third["config"]["poison"] == NO_POISON.as_json(), "nothing is left of the base's weights"


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_loss_on_the_training_pairs_falls(make_pipeline, pairs, tmp_path, prediction_type):
    pipeline = make_pipeline()
    pipeline.scheduler = type(pipeline.scheduler).from_config(
        pipeline.scheduler.config, prediction_type=prediction_type
    )
    encoded = encode_pair_set(pipeline, pairs, 32, tmp_path / "cache")
    task = DiffusionTask(pipeline.unet, pipeline.scheduler, encoded)
    held = task.batch(torch.arange(6), torch.Generator().manual_seed(9))
    with torch.no_grad():
        before = task.network(held).item()
    recipe = override(SD15, **SMALL | {"steps": 60, "learning_rate": 3e-3, "checkpoint_every": 60})
    trained = train_unet(pipeline.unet, pipeline.scheduler, encoded, recipe, tmp_path / "run", start="test")
    with torch.no_grad():
        after = DiffusionLoss(trained, pipeline.scheduler)(held).item()
    assert after < 0.9 * before


def test_captions_are_dropped_as_often_as_the_recipe_says(make_pipeline, pairs, tmp_path):
    pipeline = make_pipeline()
    encoded = encode_pair_set(pipeline, pairs, 32, tmp_path)
    task = DiffusionTask(pipeline.unet, pipeline.scheduler, encoded, caption_dropout=0.25)
    text = task.batch(torch.zeros(2000, dtype=torch.long), torch.Generator().manual_seed(0))["text"]
    empty = encoded.conditioning.rows(torch.tensor([len(encoded.conditioning) - 1]))["text"]
    share = (text == empty).flatten(1).all(dim=1).float().mean().item()
    assert share == pytest.approx(0.25, abs=0.03)


def test_a_base_that_does_not_fit_is_refused_before_anything_is_written(make_pipeline, pairs, tmp_path):
    make_pipeline().save_pretrained(tmp_path / "base")
    with pytest.raises(ValueError, match=r"base base is SD 1\.x: recipe sdxl expects SDXL"):
        fine_tune(tmp_path / "base", pairs, SDXL, tmp_path / "out", **places(tmp_path))
    index = tmp_path / "base" / "model_index.json"
    shutil.copy(index, tmp_path / "kept.json")
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_class_name": "OtherPipeline"}))
    with pytest.raises(ValueError, match="base base cannot be fine-tuned: it is a OtherPipeline"):
        fine_tune(tmp_path / "base", pairs, SD15, tmp_path / "out", **places(tmp_path))
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "run").exists()


def test_a_model_on_other_encoders_is_not_taken_for_the_one_that_is_asked_for(make_pipeline, pairs, tmp_path):
    recipe, base = override(SD15, **SMALL), tmp_path / "base"
    make_pipeline().save_pretrained(base)
    first = fine_tune(base, pairs, recipe, tmp_path / "out", **places(tmp_path))
    assert fine_tune(base, pairs, recipe, tmp_path / "out", **places(tmp_path)) == first
    path = base / "vae" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"scaling_factor": 0.5}))
    with pytest.raises(ValueError, match="out holds a checkpoint with another encoders: choose a new folder"):
        fine_tune(base, pairs, recipe, tmp_path / "out", **places(tmp_path))
    # Of earlier releases, which did not record them.
    manifest = tmp_path / "out" / "manifest.json"
    known = json.loads(manifest.read_text())
    del known["config"]["encoders"]
    manifest.write_text(json.dumps(known))
    assert fine_tune(base, pairs, recipe, tmp_path / "out", **places(tmp_path)) == known


def test_nothing_is_published_over_other_things(make_pipeline, pairs, tmp_path):
    base = tmp_path / "base"
    make_pipeline().save_pretrained(base)
    before = {path: path.read_bytes() for path in base.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"base already holds .*: choose a new folder"):
        fine_tune(base, pairs, override(SD15, **SMALL), base, **places(tmp_path))
    assert {path: path.read_bytes() for path in base.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "run").exists(), "before any training"
