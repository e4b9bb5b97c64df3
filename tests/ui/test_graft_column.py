"""A graft beside its two models in Compare, and one that is drawn while its sliders move."""

import json

import numpy as np
import pytest
from fastapi.testclient import TestClient
from safetensors.torch import save_file

from explorer.checkpoints.pipelines import load_pipeline
from explorer.checkpoints.registry import set_base
from explorer.generation.generate import GenerationRequest, generate
from explorer.ui.screens.compare.live_generation import LiveGeneration
from explorer.ui.screens.compare.payload import png_data_uri
from explorer.ui.shell.context import AppContext, AppSettings
from explorer.ui.shell.permalink import CompareSettings
from explorer.ui.shell.server import make_server
from tests.low_rank import EVERYTHING, kohya_layout, low_rank_pairs, peft_layout, without_alphas
from tests.original_layout import original_layout, save

SETTINGS = CompareSettings(
    prompt="a photo of a dog", seed=1, steps=2, guidance_scale=2.0, models=("dirty-004", "graft", "benign")
)


@pytest.fixture
def draw(checkpoint_root):
    """``draw(parts)``: the three columns, the graft having these parts of ``benign``."""
    context = AppContext(settings=AppSettings(checkpoints=checkpoint_root))
    live = LiveGeneration(context)
    folder = checkpoint_root / "graft"
    folder.mkdir()

    def columns(parts):
        graft = {"recipient": "../dirty-004", "donor": "../benign", "parts": parts}
        (folder / "graft.json").write_text(json.dumps(graft), encoding="utf-8")
        context.study().refresh_registry()
        *_, last = live.run(context.study(), SETTINGS, "session", live.clicks.begin("session"))
        return [live.results.payload(url.split("/")[-1].removesuffix(".json")) for url in last.finished]

    return columns


def test_a_graft_is_a_column_and_drawn_anew_when_its_file_changes(draw):
    recipient, graft, donor = draw([{"group": "all"}])
    assert graft["model"] == "graft"
    assert graft["image"] == donor["image"] != recipient["image"]
    recipient, graft, donor = draw([{"group": "all", "weight": 0}])
    assert graft["image"] == recipient["image"]
    assert np.prod(graft["stacks"][0]["shape"]) > 0
    _, graft, _ = draw([{"group": "cross-attention"}])
    assert graft["image"] not in (recipient["image"], donor["image"])


@pytest.fixture
def client(checkpoint_root):
    context = AppContext(settings=AppSettings(checkpoints=checkpoint_root))
    return TestClient(make_server(context, LiveGeneration(context)), base_url="http://127.0.0.1")


@pytest.fixture
def ask(client):
    """``ask(**changes)``: what the page is answered about a graft of ``dirty-004`` with parts of ``benign``."""

    def answer(**changes):
        asked = {"recipient": "dirty-004", "donor": "benign", "prompt": "a dog", "seed": 3, "steps": 2,
                 "guidance_scale": 2.0}  # fmt: skip
        return client.get("/live/graft.json", params=asked | changes).json()

    return answer


def test_sliders_move_from_one_model_to_the_other(ask, checkpoint_root):
    request = GenerationRequest(prompt="a dog", seed=3, steps=2, guidance_scale=2.0)
    recipient, donor = (
        png_data_uri(generate(load_pipeline(checkpoint_root / name), request, capture=False).images[0])
        for name in ("dirty-004", "benign")
    )
    first = ask()
    assert first["image"] == recipient
    assert sum(group["share"] for group in first["groups"]) == pytest.approx(1)
    everything = ",".join(f"{group['name']}:1" for group in first["groups"])
    assert ask(weights=everything)["image"] == donor
    assert ask(weights="cross-attention:0.5")["image"] not in (recipient, donor)
    assert ask()["image"] == recipient, "the loaded model stays as it is"
    assert ask(prompt="a hat")["image"] != recipient


@pytest.fixture
def make_two(request, tmp_path):
    """``make_two(kind)``: two models of one architecture below a folder, and their names."""

    def made(kind):
        root = tmp_path / "two"
        if kind == "single files":
            for seed, name in enumerate(("one", "two")):
                pipeline = request.getfixturevalue("make_pipeline")(seed, only_cross_attention=False)
                pipeline.save_pretrained(root / "base")
                save(original_layout(pipeline, "sd1"), root / f"{name}.safetensors")
                set_base(root / f"{name}.safetensors", root / "base")
            return root, ("one.safetensors", "two.safetensors")
        if kind == "LoRAs":
            pipeline = request.getfixturevalue("make_pipeline")()
            pipeline.save_pretrained(root / "base")
            for seed, name in enumerate(("one", "two")):
                save_file(kohya_layout(low_rank_pairs(pipeline.unet, EVERYTHING, seed)), root / f"{name}.safetensors")
                set_base(root / f"{name}.safetensors", root / "base")
            return root, ("one.safetensors", "two.safetensors")
        for seed, name in enumerate(("one", "two")):
            request.getfixturevalue("make_sd3_pipeline")(seed).save_pretrained(root / name)
        return root, ("one", "two")

    return made


@pytest.mark.parametrize(
    ("kind", "part"),
    [("single files", "cross-attention"), ("LoRAs", "cross-attention"), ("SD3", "text-keys-values")],
)
def test_sliders_work_on_single_files_loras_and_joint_transformers(make_two, kind, part):
    root, models = make_two(kind)
    context = AppContext(settings=AppSettings(checkpoints=root))
    client = TestClient(make_server(context, LiveGeneration(context)), base_url="http://127.0.0.1")
    asked = {"recipient": models[0], "donor": models[1], "prompt": "a dog", "seed": 3, "steps": 2,
             "guidance_scale": 2.0}  # fmt: skip
    request = GenerationRequest(prompt="a dog", seed=3, steps=2, guidance_scale=2.0)
    own, other = (
        png_data_uri(generate(load_pipeline(root / name), request, capture=False).images[0]) for name in models
    )
    first = client.get("/live/graft.json", params=asked).json()
    assert first["image"] == own
    assert sum(group["share"] for group in first["groups"]) == pytest.approx(1)
    everything = ",".join(f"{group['name']}:1" for group in first["groups"])
    assert client.get("/live/graft.json", params=asked | {"weights": everything}).json()["image"] == other
    some = client.get("/live/graft.json", params=asked | {"weights": f"{part}:1"}).json()
    assert (some["image"] in (own, other), some["caveat"]) == (False, None)


def test_what_a_lora_changes_in_a_text_encoder_is_told_beside_the_sliders(client, checkpoint_root, make_pipeline):
    pipeline, path = make_pipeline(), checkpoint_root / "style.safetensors"
    text = without_alphas(low_rank_pairs(pipeline.text_encoder, ("q_proj",)))
    unet = without_alphas(low_rank_pairs(pipeline.unet, ("to_k",)))
    save_file(peft_layout(unet, "unet") | peft_layout(text, "text_encoder"), path)
    set_base(path, checkpoint_root / "benign")
    asked = {"prompt": "a dog", "seed": 3, "steps": 2, "guidance_scale": 2.0, "weights": "cross-attention:1"}
    models = ("benign", path.name)
    given, taken = (client.get("/live/graft.json", params=asked | {"recipient": one, "donor": other}).json()
                    for one, other in (models, models[::-1]))  # fmt: skip
    assert given["caveat"] == (
        "its donor style.safetensors also changes text_encoder, where a graft has what its recipient has"
    )
    assert (taken["caveat"], given["image"] != taken["image"]) == (None, True)


def test_a_graft_of_sliders_is_a_column_with_maps_numbers_and_sensitivity(ask, client):
    weights = "cross-attention-keys-values:1,feed-forward:0.5"
    column = ask(weights=weights, column=True)
    assert column["model"] == f"dirty-004 + benign: {weights}"
    assert column["graft"] == {
        "title": "dirty-004 + benign", "parts": [["cross-attention-keys-values", 1.0], ["feed-forward", 0.5]]
    }  # fmt: skip
    assert column["image"] == ask(weights=weights)["image"], "captured, the picture is the same"
    assert (column["poison_recorded"], column["poisoned"]) == (False, None), "what the parts bring is not known"
    assert np.prod(column["stacks"][0]["shape"]) > 0
    asked = {"token": column["token"], "word": column["concept_words"][0], "step": 1}
    own = client.get("/live/sensitivity.json", params=asked).json()["draws"]
    everything = ",".join(f"{group['name']}:1" for group in column["groups"])
    asked["token"] = ask(weights=everything, column=True)["token"]
    assert client.get("/live/sensitivity.json", params=asked).json()["draws"] != own, "measured in the graft itself"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dirty-004 + nowhere: feed-forward:1", "There is no checkpoint called 'nowhere'"),
        ("dirty-004 + benign: feet:1", "benign cannot give parts to dirty-004: UNet2DConditionModel has no group"),
        ("dirty-004 + benign", "There is no checkpoint called 'dirty-004 + benign'"),
    ],
)
def test_a_name_of_no_graft_is_told(client, name, words):
    asked = {"model": name, "prompt": "a dog", "seed": 3}
    assert words in client.get("/live/given.json", params=asked).json()["problem"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": "", "column": True}, "No part was chosen: a column needs one"),
        ({"weights": "cross-attention:2"}, "weight is 2.0: expected a number from -1"),
        ({"weights": "cross-attention"}, "'cross-attention' is no part: expected a group, a colon and a weight"),
        ({"weights": "attention:1"}, "benign cannot give parts to dirty-004: UNet2DConditionModel has no group"),
        ({"donor": "nowhere"}, "nowhere"),
        ({"steps": 0}, "0 denoising steps were asked for"),
        ({"prompt": "a zebra"}, "zebra"),
    ],
)
def test_what_cannot_be_drawn_is_told(ask, changes, words):
    assert words in ask(**changes)["problem"]
