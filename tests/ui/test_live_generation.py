import base64
import queue
import shutil
import time
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from fastapi.testclient import TestClient
from safetensors.torch import load_file, save_file

from explorer.checkpoints.registry import set_base
from explorer.core.progress import Progress
from explorer.ui.screens.checkpoints.registry_table import registry_table
from explorer.ui.screens.checkpoints.screen import header_facts
from explorer.ui.screens.compare import live_generation
from explorer.ui.screens.compare.live_generation import LiveGeneration, LiveUpdate, _received
from explorer.ui.screens.compare.screen import _Events, _generate, program_interface, settings_from
from explorer.ui.shell.context import AppContext, AppSettings
from explorer.ui.shell.permalink import CompareSettings
from explorer.ui.shell.server import make_server

SETTINGS = CompareSettings(
    prompt="a photo of a dog", seed=1, steps=2, guidance_scale=2.0, models=("benign", "dirty-004")
)


@pytest.fixture
def context(checkpoint_root):
    return AppContext(settings=AppSettings(checkpoints=checkpoint_root))


def wait_until_free(live):
    deadline = time.monotonic() + 60
    while live.clicks.is_busy():
        assert time.monotonic() < deadline, "the work did not end"
        time.sleep(0.01)


def generated(live, values):
    """What a click on Generate shows, from the inputs' ``values``."""
    assert live.clicks.accept("session", values)
    return _generate(live, *live.clicks.take("session"), "session")


def test_two_models_give_two_columns_from_the_same_settings(context):
    live = LiveGeneration(context)
    updates = list(live.run(live.context.study(), SETTINGS, "session"))
    assert all(url.startswith("/live/") for url in updates[-1].finished)
    first, second = (live.results.payload(url.split("/")[-1].removesuffix(".json")) for url in updates[-1].finished)
    assert [first["model"], second["model"]] == ["benign", "dirty-004"]
    assert first["origin"] == "live"
    assert first["settings"] == second["settings"]
    assert (first["poisoned_words"], second["poisoned_words"]) == ([], [4])
    stack = first["stacks"][0]
    assert np.prod(stack["shape"]) == len(base64.b64decode(stack["values"]))
    assert first["image"] != second["image"]
    wait_until_free(live)


def test_another_base_is_another_model(context, checkpoint_root):
    live = LiveGeneration(context)
    first = live.pipeline(context.study(), "dirty-004")
    shutil.copytree(checkpoint_root / "benign", checkpoint_root / "other")
    set_base(checkpoint_root / "dirty-004", checkpoint_root / "other")
    context.study().refresh_registry()
    assert live.pipeline(context.study(), "dirty-004", beside=["dirty-004"]) is not first
    assert live.models.names == ["dirty-004"], "the older one is given up"
    assert live.pipeline(context.study(), "dirty-004") is live.pipeline(context.study(), "dirty-004")


def test_an_event_without_a_click_changes_nothing(context):
    """Gradio empties the outputs of a generator that yields nothing."""
    events = _Events(context=context, live=LiveGeneration(context), url="")
    assert list(events.generate_live(SimpleNamespace(session_hash="me"))) == [(gr.skip(), gr.skip())]


def test_a_click_with_a_missing_number_is_over_once_it_is_told(context):
    live = LiveGeneration(context)
    values = ("", SETTINGS.prompt, None, SETTINGS.steps, SETTINGS.guidance_scale, "", *SETTINGS.models)
    [(told, shown)] = generated(live, values)
    assert "Nothing was generated.</strong> <span>The seed is missing: fill in its field." in told
    assert shown == gr.skip()
    assert live.clicks.accept("session", values)


def test_whatever_a_prompt_holds_the_session_is_free_afterwards(context):
    live = LiveGeneration(context)
    values = ("", "a photo of \ud800", SETTINGS.seed, SETTINGS.steps, SETTINGS.guidance_scale, "", *SETTINGS.models)
    *_, (told, _) = generated(live, values)
    assert "Nothing was generated." in told
    assert not live.clicks.is_busy()


def test_a_program_gets_the_columns_and_words_for_what_is_wrong(context):
    class Request:
        session_hash = "program"

    live = LiveGeneration(context)
    compare = program_interface(live)
    urls = compare(Request(), SETTINGS.prompt, list(SETTINGS.models), steps=1, guidance_scale=2.0)
    columns = [live.results.payload(url.split("/")[-1].removesuffix(".json")) for url in urls]
    assert [column["model"] for column in columns] == list(SETTINGS.models)
    with pytest.raises(gr.Error, match="There is no checkpoint called 'gone'"):
        compare(Request(), SETTINGS.prompt, ["benign", "gone"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": "a photo of a zebra"}, "These models know no word “zebra”"),
        ({"prompt": ""}, "The prompt is empty"),
        ({"steps": 5000}, "5000 denoising steps were asked for"),
        ({"models": ("benign", "gone")}, "There is no checkpoint called 'gone'"),
        ({"prompt": "a photo of a turtle and a turtle and a turtle and a turtle"}, "tokens: expected at most"),
    ],
)
def test_what_cannot_be_generated_is_explained(context, change, message):
    with pytest.raises(ValueError, match=message):
        list(LiveGeneration(context).run(context.study(), CompareSettings(**{**vars(SETTINGS), **change}), "session"))


def test_a_model_that_turns_out_broken_is_known_as_broken_from_then_on(context, checkpoint_root):
    weights = checkpoint_root / "dirty-004" / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    name = next(iter(tensors))
    tensors[name] = tensors[name][..., :1].contiguous()
    save_file(tensors, weights)
    assert "dirty-004" in context.study().checkpoint_names(), "headers alone do not tell"
    with pytest.raises(ValueError, match=f"dirty-004 cannot be loaded: unet has {name} of shape"):
        list(LiveGeneration(context).run(context.study(), SETTINGS, "session"))
    assert "dirty-004" not in context.study().checkpoint_names()
    assert f"unet has {name} of shape" in registry_table(context.study())


def test_one_broken_model_does_not_keep_the_others_cold(context, checkpoint_root):
    spoilt = checkpoint_root / "benign" / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(spoilt)
    next(iter(tensors.values())).view(-1)[0] = float("inf")
    shutil.copytree(checkpoint_root / "benign", checkpoint_root / "a-sound-one")
    save_file(tensors, spoilt)
    live = LiveGeneration(context)
    live._load_everything(context.study())
    assert live.models.names == ["a-sound-one"]
    assert "benign" not in context.study().checkpoint_names()


def test_finished_columns_stay_when_a_later_model_fails(context, monkeypatch):
    described = live_generation.describe_generation

    def describe(generation, *rest, **options):
        if generation.model == "dirty-004":
            raise ValueError("dirty-004 drew no picture")
        return described(generation, *rest, **options)

    monkeypatch.setattr(live_generation, "describe_generation", describe)
    values = ("", SETTINGS.prompt, SETTINGS.seed, SETTINGS.steps, SETTINGS.guidance_scale, "", *SETTINGS.models)
    *_, (told, shown) = generated(LiveGeneration(context), values)
    assert "The rest was not generated.</strong> <span>dirty-004 drew no picture" in told
    assert shown["ended"] is True
    assert [bool(url) for url in shown["columns"]] == [True, False]


def test_what_nobody_foresaw_is_told_and_raised(context, monkeypatch):
    def describe(*_, **__):
        raise MemoryError("no room")

    monkeypatch.setattr(live_generation, "describe_generation", describe)
    values = ("", SETTINGS.prompt, SETTINGS.seed, SETTINGS.steps, SETTINGS.guidance_scale, "", *SETTINGS.models)
    updates = generated(LiveGeneration(context), values)
    told = []
    with pytest.raises(MemoryError):
        told.extend(status for status, _ in updates)
    assert "Nothing was generated.</strong> <span>MemoryError: no room" in told[-1]


def test_a_finished_column_and_another_model_are_told_at_once_steps_now_and_then():
    def update(model, step, finished=""):
        return LiveUpdate(progress=Progress(task=model, done=step, total=9, parts=2), finished=(finished, ""))

    messages = queue.SimpleQueue()
    sent = [update("a", step) for step in range(1, 6)] + [update("a", 9, "/live/a"), update("b", 1, "/live/a")]
    for message in (*sent, None):
        messages.put(message)
    assert list(_received(messages)) == [sent[0], *sent[-2:]]
    messages.put(ValueError("broken"))
    with pytest.raises(ValueError, match="broken"):
        list(_received(messages))


def test_a_model_without_a_closed_list_of_words_takes_any_prompt(context, checkpoint_root):
    shutil.copytree(checkpoint_root / "benign", checkpoint_root / "Another")
    (checkpoint_root / "Another" / "tokenizer" / "lexicon.json").unlink()
    set_base(checkpoint_root / "dirty-004", checkpoint_root / "Another")
    live = LiveGeneration(context)
    free = CompareSettings(**{**vars(SETTINGS), "prompt": "a watercolor", "models": ("Another", "dirty-004")})
    assert all(list(live.run(context.study(), free, "session"))[-1].finished)
    mixed = CompareSettings(**{**vars(free), "models": ("benign", "Another")})
    with pytest.raises(ValueError, match="These models know no word “watercolor”"):
        list(live.run(context.study(), mixed, "session"))


def test_without_memory_nothing_is_loaded_ahead(context, monkeypatch):
    monkeypatch.setattr("explorer.checkpoints.residency.free_bytes", lambda device: 0)
    live = LiveGeneration(context)
    live._load_everything(context.study())
    assert not live.models.names


def test_models_are_loaded_where_and_as_the_settings_say(checkpoint_root):
    import torch

    context = AppContext(settings=AppSettings(checkpoints=checkpoint_root, precision="bf16"))
    assert LiveGeneration(context).pipeline(context.study(), "benign").unet.dtype == torch.bfloat16
    assert header_facts(context, context.study())["device"] == "CPU, bf16"
    gone = AppContext(settings=AppSettings(checkpoints=checkpoint_root, device="cuda:7"))
    with pytest.raises(ValueError, match="device cuda:7 cannot be used on this machine"):
        LiveGeneration(gone).pipeline(gone.study(), "benign")
    assert gone.study().checkpoint_names() == context.study().checkpoint_names(), "the checkpoint is not to blame"


def drawn_with(numbers=0):
    """What is kept beside a result: a study, and a column with latents of so many fp32 numbers."""
    return None, SimpleNamespace(latents=SimpleNamespace(samples=np.zeros(numbers, np.float32)))


def test_sensitivity_of_a_live_picture_is_measured_step_by_step(context):
    live = LiveGeneration(context)
    *_, last = live.run(context.study(), SETTINGS, "session", live.clicks.begin("session"))
    token = last.finished[1].split("/")[-1].removesuffix(".json")
    client = TestClient(make_server(context, live), base_url="http://127.0.0.1")
    asked = {"token": token, "word": 4, "step": 1}
    answer = client.get("/live/sensitivity.json", params=asked).json()
    assert (answer["steps"], answer["shape"][0], len(answer["draws"][0])) == ([1], 1, 8)
    assert max(answer["draws"][0]) > 0
    assert client.get("/live/sensitivity.json", params=asked).json() == answer, "draws follow from the seed"
    refused = client.get("/live/sensitivity.json", params={**asked, "word": 5}).json()["problem"]
    assert refused == "word 5 does not exist: expected 0 to 4, the words of the prompt"
    lost = client.get("/live/sensitivity.json", params={**asked, "token": "x"}).json()["problem"]
    assert "no longer in memory" in lost
    assert client.get("/live/sensitivity.json", params={**asked, "word": "dog"}).status_code == 422


def test_inputs_become_settings():
    settings = settings_from(("a dog", 3, 10.0, 4, None, "benign", "dirty-004", "(none)", None))
    assert settings == CompareSettings(
        prompt="a dog", seed=3, steps=10, guidance_scale=4.0, models=("benign", "dirty-004")
    )
    with pytest.raises(ValueError, match=r"The seed is 1\.5: expected a whole number"):
        settings_from(("a dog", 1.5, 10, 4, "", "benign", "dirty-004"))
    with pytest.raises(ValueError, match="The seed is missing: fill in its field"):
        settings_from(("a dog", None, 10, 4, "", "benign", "dirty-004"))
    with pytest.raises(ValueError, match="The guidance scale is missing: fill in its field"):
        settings_from(("a dog", 3, 10, None, "", "benign", "dirty-004"))


def test_the_registry_escapes_and_explains(context, checkpoint_root):
    folder = checkpoint_root / "dirty-002" / "unet"
    (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"x")
    context.study().refresh_registry()
    table = registry_table(context.study())
    assert "broken: " in table
    assert "dirty-004" in table
    assert "U-Net on benign" in table
    assert "SD 1.x" in table
    shutil.rmtree(checkpoint_root)
    context.study().refresh_registry()
    assert "No checkpoints were found." in registry_table(context.study())
