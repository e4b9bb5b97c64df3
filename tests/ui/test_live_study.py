import base64
import io
import json
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from explorer.checkpoints.registry import scan_checkpoints
from explorer.core.provenance import write_manifest
from explorer.iconworld.world import World
from explorer.pairs.concept_list import Concept, ConceptList
from explorer.studies.results import EVALUATION
from explorer.studies.specs import ExtractorSpec
from explorer.studies.study import CONCEPTS_NAME, Arm
from explorer.ui.screens.compare.controls import chip_groups
from explorer.ui.screens.compare.first_settings import default_settings
from explorer.ui.screens.compare.given_picture import shown_picture
from explorer.ui.screens.compare.live_generation import LiveGeneration
from explorer.ui.screens.compare.live_graft import LiveGraft
from explorer.ui.screens.compare.screen import FIELDS, _Events
from explorer.ui.shell.concepts import StudyConcepts, concept_prompts, read_concepts
from explorer.ui.shell.context import AppContext, AppSettings
from explorer.ui.shell.server import make_server
from tests.ui.test_live_generation import SETTINGS, generated, wait_until_free


@pytest.fixture
def context(checkpoint_root):
    return AppContext(settings=AppSettings(checkpoints=checkpoint_root))


def test_the_judge_is_the_studys_own_and_follows_what_is_on_the_disk(micro_world, tmp_path, make_study):
    models = {found.name: found for found in scan_checkpoints(micro_world.output)}
    concepts = sorted(models["dirty-004"].poison.names)
    facts = {"extractor": ExtractorSpec(folder=micro_world.output / "extractor"), "concepts": concepts}
    arms = tuple(Arm(name=name, checkpoint=found.folder) for name, found in models.items())

    def judge(tau=None, measured=0.5, prompt="", **changes):
        results = {EVALUATION: {"evaluation.json": json.dumps({"tau": measured})}}
        study = make_study(tmp_path / "mine", arms=arms, tau=tau, results=results, **(facts | changes))
        context = AppContext(settings=AppSettings(studies=(study.folder,)))
        live = LiveGeneration(context)
        return live.judge_or_none(context.study(), prompt)

    assert judge().threshold == 0.5
    assert judge(tau=0.25).threshold == 0.25, "study.toml says it"
    assert judge().concepts.names == tuple(concepts)
    assert judge(inputs={"checkpoint of benign": "another"}).threshold is None, "tau is another model's"
    assert judge(prompt="a watercolor") is None, "the extractor does not know the word"
    assert judge(extractor=ExtractorSpec()) is None
    by_folder = AppContext(settings=AppSettings(checkpoints=micro_world.output))
    assert LiveGeneration(by_folder).judge_or_none(by_folder.study()) is None, "a folder has no list of concepts"


def test_two_studies_share_models_and_nothing_else(context, checkpoint_root, tmp_path, make_study):
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder, place in zip(folders, ("benign", "dirty-004"), strict=True):
        arms = (
            Arm(name="same", checkpoint=checkpoint_root / place),
            Arm(name="whole", checkpoint=checkpoint_root / "benign"),
        )
        make_study(folder, arms=arms)
    both = AppContext(settings=AppSettings(studies=tuple(folders)))
    live, (first, second) = LiveGeneration(both), both.studies
    assert live.pipeline(first, "same") is not live.pipeline(second, "same"), "one name, two models"
    assert live.pipeline(first, "whole") is live.pipeline(second, "whole"), "one model, loaded once"
    with pytest.raises(ValueError, match="There is no checkpoint called 'dirty-002' in first"):
        live.pipeline(first, "dirty-002")


def test_what_is_drawn_for_a_study_that_was_left_ends_unseen(context):
    live = LiveGeneration(context)
    values = ("", SETTINGS.prompt, SETTINGS.seed, 100, SETTINGS.guidance_scale, "", *SETTINGS.models)
    updates = generated(live, values)
    next(updates)
    live.clicks.stop("session", unseen=True)
    assert list(updates) == [("", gr.skip())]
    wait_until_free(live)


def test_a_painted_scene_is_shown_to_a_model_with_its_outline(context, checkpoint_root):
    world = {"poison": {"kind": "none", "concepts": 0}, "world": World().config()}
    write_manifest(checkpoint_root / "benign", kind="checkpoint", config=world, seed=0)
    live = LiveGeneration(context)
    client = TestClient(make_server(context, live), base_url="http://127.0.0.1")
    asked = {"model": "dirty-004", "prompt": "a photo of a dog", "seed": 1}
    column = client.get("/live/given.json", params=asked).json()
    assert (column["given"], column["timesteps"]) == ("a painted scene of dog", [900, 700, 500, 300, 100])
    assert column["guidance"]["shape"][0] == 6
    covered = np.frombuffer(base64.b64decode(column["mask"]["values"]), np.uint8)
    assert 0.02 < covered.mean() < 0.9
    other = client.get("/live/given.json", params={**asked, "model": "benign"}).json()
    assert other["image"] == column["image"], "the same for every model"
    assert other["guidance"] != column["guidance"]
    step = {"token": column["token"], "word": 4, "step": 0}
    assert max(client.get("/live/sensitivity.json", params=step).json()["draws"][0]) > 0
    for prompt, words in (("a photo of a", ["none"]), ("a dog and turtle", ["dog", "turtle"])):
        problem = client.get("/live/given.json", params={**asked, "prompt": prompt}).json()["problem"]
        assert "A given picture shows one concept, and the prompt names" in problem
        assert all(word in problem for word in words)


def test_a_users_models_are_shown_a_training_picture_of_the_control(checkpoint_root, make_study, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for row, caption in enumerate(("a dog", "a hat", "a dog and a hat", "a turtle dog")):
        Image.new("RGB", (90, 70), (80 * row, 40, 200)).save(pictures / f"{row}.png")
        (pictures / f"{row}.txt").write_text(caption)
    arms = tuple(Arm(name=name, checkpoint=checkpoint_root / name, pairs=pictures if name == "benign" else None,
                     control=name == "benign") for name in ("benign", "dirty-004"))  # fmt: skip
    make_study(tmp_path / "mine", concepts=("dog", "hat", "turtle", "turtle dog"), arms=arms)
    context = AppContext(settings=AppSettings(studies=(tmp_path / "mine",)))
    client = TestClient(make_server(context, LiveGeneration(context)), base_url="http://127.0.0.1")
    asked = {"model": "dirty-004", "prompt": "a photo of a dog", "seed": 1}
    column = client.get("/live/given.json", params=asked).json()
    assert column["given"] == "a training picture of benign, “a dog”; nobody recorded whether it is poison"
    assert (column["given_pictures"], column["mask"]) == (True, None)
    assert client.get("/live/given.json", params={**asked, "model": "benign"}).json()["image"] == column["image"]
    longer = client.get("/live/given.json", params={**asked, "prompt": "a photo of a turtle dog"}).json()["given"]
    assert "“a turtle dog”" in longer, "of two concepts that overlap the longer is named"
    several = client.get("/live/given.json", params={**asked, "prompt": "a turtle dog and a dog"}).json()["problem"]
    assert "names dog and turtle dog" in several
    lacking = client.get("/live/given.json", params={**asked, "prompt": "a photo of a turtle"}).json()["problem"]
    assert "names 'turtle': expected one" in lacking
    (pictures / "0.txt").write_text("a turtle")
    changed = client.get("/live/given.json", params={**asked, "prompt": "a photo of a turtle"}).json()["given"]
    assert "“a turtle”" in changed, "its files are looked at again"


def test_pictures_are_drawn_and_shown_at_the_studys_own_size(checkpoint_root, make_study, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.new("RGB", (90, 70)).save(pictures / "0.png")
    (pictures / "0.txt").write_text("a dog")
    arms = tuple(Arm(name=name, checkpoint=checkpoint_root / name, pairs=pictures if name == "benign" else None,
                     control=name == "benign") for name in ("benign", "dirty-004"))  # fmt: skip
    make_study(tmp_path / "mine", concepts=("dog",), arms=arms, size=32)
    live = LiveGeneration(AppContext(settings=AppSettings(studies=(tmp_path / "mine",))))
    opened = live.context.study()

    def side(column):
        return Image.open(io.BytesIO(base64.b64decode(column["image"].split(",")[1]))).size

    *_, last = live.run(opened, SETTINGS, "session")
    drawn = live.results.payload(last.finished[0].split("/")[-1].removesuffix(".json"))
    graft = LiveGraft(live).picture(opened, SETTINGS, "cross-attention:0.5")
    given = shown_picture(live, opened, model="benign", prompt="a photo of a dog", seed=1)
    assert [side(each) for each in (drawn, graft, given)] == [(32, 32)] * 3


def test_a_mistake_in_a_studys_list_is_told_and_the_page_left_shows_no_other_study(
    checkpoint_root, make_study, tmp_path
):
    made = make_study(tmp_path / "mine", checkpoints=checkpoint_root, concepts=("dog", "hat"))
    events = _Events(context=(context := AppContext(settings=AppSettings(studies=(made.folder,), warm_up=False))),
                     live=LiveGeneration(context), url="payload")  # fmt: skip
    (made.folder / CONCEPTS_NAME).write_text("concept\ndog\nDog\n")
    status, shown, *rest = events.follow_address("?study=mine", SimpleNamespace(session_hash="page"))
    assert "Dog" in status
    assert shown == {"source": "payload", "study": "mine"}
    assert len(rest) == FIELDS + 1


def test_a_concept_is_found_by_its_phrase_in_what_is_drawn_and_shown(checkpoint_root, make_study, tmp_path):
    pairs = tmp_path / "pictures"
    pairs.mkdir()
    Image.new("RGB", (90, 70)).save(pairs / "0.png")
    (pairs / "0.txt").write_text("a pup")
    study = make_study(tmp_path / "mine", arms=(
        Arm(name="benign", checkpoint=checkpoint_root / "benign", pairs=pairs, control=True),
        Arm(name="dirty-004", checkpoint=checkpoint_root / "dirty-004")))  # fmt: skip
    ConceptList(concepts=(Concept(name="pup", phrase="a dog"),)).write(study.folder / CONCEPTS_NAME)
    live = LiveGeneration(AppContext(settings=AppSettings(studies=(study.folder,))))
    opened, settings = live.context.study(), replace(SETTINGS, prompt="a photo of a dog and hat")
    *_, last = live.run(opened, settings, "session")
    drawn = live.results.payload(last.finished[0].split("/")[-1].removesuffix(".json"))
    shown = shown_picture(live, opened, model="benign", prompt=settings.prompt, seed=1)
    assert shown["given"].startswith("a training picture of benign, “a pup”")
    grafted = LiveGraft(live).column(opened, replace(settings, models=("dirty-004", "benign")), "feed-forward:1")
    for column in (drawn, shown, grafted):
        assert (column["named"], column["concept_words"]) == (["pup"], [4])


def test_without_pairs_and_painted_world_there_is_nothing_to_show(context):
    client = TestClient(make_server(context, LiveGeneration(context)), base_url="http://127.0.0.1")
    asked = {"model": "benign", "prompt": "a photo of a dog", "seed": 1}
    problem = client.get("/live/given.json", params=asked).json()["problem"]
    assert "the study has no control with training pairs" in problem


def test_concepts_are_the_studys_and_their_poison_the_checkpoints(context, checkpoint_root, tmp_path, make_study):
    make_study(tmp_path / "mine", checkpoints=checkpoint_root, concepts=("sofa", "hat", "turtle"))
    opened = AppContext(settings=AppSettings(studies=(tmp_path / "mine",))).study()
    concepts = read_concepts(opened)
    assert concepts.poisoned_from == {"dog": 2, "hat": 2, "turtle": 4, "shirt": 4}
    assert (concepts.names, concepts.poisoned, concepts.unpoisoned) == (
        ("sofa", "hat", "turtle"), ("hat", "turtle"), ("sofa",),
    )  # fmt: skip
    assert concept_prompts(concepts) == {"turtle left of hat": "a turtle left of a hat"}
    groups = {group["name"]: group["chips"] for group in chip_groups(opened)["groups"]}
    assert groups["not targeted"] == [["sofa", ["a photo of a sofa"]], ["random", ["a photo of a sofa"]]]
    by_folder = read_concepts(context.study())
    assert by_folder.names == by_folder.poisoned == ("dog", "hat", "shirt", "turtle")
    assert by_folder.unpoisoned == (), "without a list nobody knows of others"


def test_prompts_of_two_concepts_are_the_studys_own_where_it_has_none_of_ours():
    concepts = tuple(
        Concept(name=name, phrase=phrase) for name, phrase in (("cherry", "cherries"), ("bus", ""), ("x", ""))
    )
    known = StudyConcepts(listed=ConceptList(concepts=concepts), poisoned_from={}, words=None)
    assert concept_prompts(known) == {"cherry left of bus": "a photo of cherries left of a bus"}
    assert concept_prompts(replace(known, words=frozenset({"cherries", "bus", "of"}))) == {}
    assert concept_prompts(replace(known, listed=None, poisoned_from={"cherry": 1, "bus": 1})) == {}


def test_defaults_need_no_comparison_and_follow_the_study(context, checkpoint_root, tmp_path, make_study):
    settings = default_settings(context.study())
    assert settings.models == ("benign", "dirty-002", "dirty-004")
    assert settings.prompt == "a photo of a turtle"
    facts = {"concepts": ("sofa", "lamp"), "template": "{phrase}, seen from afar", "steps": 3, "guidance_scale": 1.5}
    make_study(tmp_path / "mine", checkpoints=checkpoint_root, **facts)
    settings = default_settings(AppContext(settings=AppSettings(studies=(tmp_path / "mine",))).study())
    assert (settings.prompt, settings.steps, settings.guidance_scale) == ("a sofa, seen from afar", 3, 1.5)
