import base64
import json
import queue
import shutil
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from explorer.checkpoints.registry import set_base
from explorer.core.progress import Progress
from explorer.core.provenance import write_manifest
from explorer.generation.generate import GenerationStopped
from explorer.ui.screens.checkpoints.screen import header_facts, registry_table
from explorer.ui.screens.compare.live_generation import LiveGeneration, LiveUpdate, _received
from explorer.ui.screens.compare.screen import _generate, default_settings, program_interface, settings_from
from explorer.ui.shell.concepts import concept_prompts, read_world_concepts
from explorer.ui.shell.context import AppContext, AppSettings
from explorer.ui.shell.messages import STOPPED_EARLY
from explorer.ui.shell.permalink import CompareSettings

SETTINGS = CompareSettings(
    prompt="a photo of a dog", seed=1, steps=2, guidance_scale=2.0, models=("benign", "dirty-004")
)


@pytest.fixture
def context(checkpoint_root, tmp_path):
    return AppContext(settings=AppSettings(checkpoints=checkpoint_root, precomputed=tmp_path / "none"))


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
    updates = list(live.run(SETTINGS, "session"))
    assert all(url.startswith("/live/") for url in updates[-1].finished)
    first, second = (live.result(url.split("/")[-1].removesuffix(".json")) for url in updates[-1].finished)
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
    first = live.pipeline("dirty-004")
    shutil.copytree(checkpoint_root / "benign", checkpoint_root / "other")
    set_base(checkpoint_root / "dirty-004", checkpoint_root / "other")
    context.refresh_registry()
    assert live.pipeline("dirty-004", beside=["dirty-004"]) is not first
    assert live.models.names == ["dirty-004"], "the older one is given up"
    assert live.pipeline("dirty-004") is live.pipeline("dirty-004")


def test_a_closed_page_stops_the_work(context):
    live = LiveGeneration(context)
    iterator = live.run(CompareSettings(**{**vars(SETTINGS), "steps": 100}), "session")
    next(iterator)
    assert live.clicks.is_busy()
    iterator.close()
    wait_until_free(live)


def test_stop_and_a_second_click_are_answered(context):
    live = LiveGeneration(context)
    iterator = live.run(CompareSettings(**{**vars(SETTINGS), "steps": 100}), "session")
    next(iterator)
    with pytest.raises(ValueError, match="still working on your last click"):
        next(live.run(SETTINGS, "session"))

    assert live.clicks.stop("session") == "working"
    with pytest.raises(GenerationStopped):
        list(iterator)
    wait_until_free(live)


def test_closing_the_iterator_waits_for_nobody(context):
    live, release = LiveGeneration(context), threading.Event()
    live.pipeline = lambda name, **options: release.wait(60)
    iterator = live.run(SETTINGS, "session")
    assert next(iterator).progress.total is None
    iterator.close()
    assert live.clicks.is_busy(), "the load goes on"
    release.set()
    wait_until_free(live)


def expect_stop(live):
    with pytest.raises(GenerationStopped, match="stopped before benign was loaded"):
        list(live.run(SETTINGS, "session"))


def test_stop_while_the_models_are_busy_with_others_loads_none(context):
    live = LiveGeneration(context)
    release = threading.Event()
    context.models.submit(lambda: release.wait(60))  # as the warm-up does for minutes
    try:
        thread = threading.Thread(target=expect_stop, args=(live,), daemon=True)
        thread.start()
        while not live.clicks.is_busy():
            time.sleep(0.01)
        assert live.clicks.stop("session") == "working"
    finally:
        release.set()
    thread.join(timeout=60)
    wait_until_free(live)
    assert not live.models.names, "stopped before a model was loaded"


def test_stopped_before_the_first_step_the_page_stays_as_it_was(context):
    live = LiveGeneration(context)
    load = live.pipeline

    def stop_while_loading(name, **options):
        live.clicks.stop("session")
        return load(name, **options)

    live.pipeline = stop_while_loading
    values = (SETTINGS.prompt, SETTINGS.seed, SETTINGS.steps, SETTINGS.guidance_scale, "", *SETTINGS.models)
    *_, (told, shown) = generated(live, values)
    assert STOPPED_EARLY in told
    assert shown == gr.skip()


def test_a_click_with_a_missing_number_is_over_once_it_is_told(context):
    live = LiveGeneration(context)
    values = (SETTINGS.prompt, None, SETTINGS.steps, SETTINGS.guidance_scale, "", *SETTINGS.models)
    [(told, shown)] = generated(live, values)
    assert "Nothing was generated.</strong> <span>The seed is missing: fill in its field." in told
    assert shown == gr.skip()
    assert live.clicks.accept("session", values)


def test_whatever_a_prompt_holds_the_session_is_free_afterwards(context):
    live = LiveGeneration(context)
    values = ("a photo of \ud800", SETTINGS.seed, SETTINGS.steps, SETTINGS.guidance_scale, "", *SETTINGS.models)
    *_, (told, _) = generated(live, values)
    assert "Nothing was generated." in told
    assert not live.clicks.is_busy()


def test_a_program_gets_the_columns_and_words_for_what_is_wrong(context):
    class Request:
        session_hash = "program"

    live = LiveGeneration(context)
    compare = program_interface(live)
    urls = compare(Request(), SETTINGS.prompt, list(SETTINGS.models), steps=1, guidance_scale=2.0)
    columns = [live.result(url.split("/")[-1].removesuffix(".json")) for url in urls]
    assert [column["model"] for column in columns] == list(SETTINGS.models)
    with pytest.raises(gr.Error, match="There is no checkpoint called 'gone'"):
        compare(Request(), SETTINGS.prompt, ["benign", "gone"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": "a photo of a zebra"}, "This world has no word “zebra”"),
        ({"prompt": ""}, "The prompt is empty"),
        ({"steps": 5000}, "5000 denoising steps were asked for"),
        ({"models": ("benign", "gone")}, "There is no checkpoint called 'gone'"),
        ({"prompt": "a photo of a turtle and a turtle and a turtle and a turtle"}, "tokens: expected at most"),
    ],
)
def test_what_cannot_be_generated_is_explained(context, change, message):
    with pytest.raises(ValueError, match=message):
        list(LiveGeneration(context).run(CompareSettings(**{**vars(SETTINGS), **change}), "session"))


def test_a_model_that_turns_out_broken_is_known_as_broken_from_then_on(context, checkpoint_root):
    weights = checkpoint_root / "dirty-004" / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    name = next(iter(tensors))
    tensors[name] = tensors[name][..., :1].contiguous()
    save_file(tensors, weights)
    assert "dirty-004" in context.checkpoint_names(), "headers alone do not tell"
    with pytest.raises(ValueError, match=f"dirty-004 cannot be loaded: unet has {name} of shape"):
        list(LiveGeneration(context).run(SETTINGS, "session"))
    assert "dirty-004" not in context.checkpoint_names()
    assert f"unet has {name} of shape" in registry_table(context.registry())


def test_one_broken_model_does_not_keep_the_others_cold(context, checkpoint_root):
    spoilt = checkpoint_root / "benign" / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(spoilt)
    next(iter(tensors.values())).view(-1)[0] = float("inf")
    shutil.copytree(checkpoint_root / "benign", checkpoint_root / "a-sound-one")
    save_file(tensors, spoilt)
    live = LiveGeneration(context)
    live._load_everything()
    assert live.models.names == ["a-sound-one"]
    assert "benign" not in context.checkpoint_names()


def test_finished_columns_stay_when_a_later_model_fails(context, monkeypatch):
    from explorer.generation import columns as artefacts

    described = artefacts.describe_generation

    def describe(generation, *rest, **options):
        if generation.model == "dirty-004":
            raise ValueError("dirty-004 drew no picture")
        return described(generation, *rest, **options)

    monkeypatch.setattr(artefacts, "describe_generation", describe)
    values = (SETTINGS.prompt, SETTINGS.seed, SETTINGS.steps, SETTINGS.guidance_scale, "", *SETTINGS.models)
    *_, (told, shown) = generated(LiveGeneration(context), values)
    assert "The rest was not generated.</strong> <span>dirty-004 drew no picture" in told
    assert shown["ended"] is True
    assert [bool(url) for url in shown["columns"]] == [True, False]


def test_what_nobody_foresaw_is_told_and_raised(context, monkeypatch):
    from explorer.generation import columns as artefacts

    def describe(*_, **__):
        raise MemoryError("no room")

    monkeypatch.setattr(artefacts, "describe_generation", describe)
    values = (SETTINGS.prompt, SETTINGS.seed, SETTINGS.steps, SETTINGS.guidance_scale, "", *SETTINGS.models)
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


def test_a_model_without_a_closed_list_of_words_takes_any_prompt_and_no_judge(
    context, checkpoint_root, tokenizer_folder, monkeypatch
):
    shutil.copytree(checkpoint_root / "benign", checkpoint_root / "Another")
    (checkpoint_root / "Another" / "tokenizer" / "lexicon.json").unlink()
    set_base(checkpoint_root / "dirty-004", checkpoint_root / "Another")
    live = LiveGeneration(context)

    class Judge:
        def judge(self, *_):
            raise AssertionError("the extractor does not know these words")

    monkeypatch.setattr(live, "_judge_or_none", Judge)
    free = CompareSettings(**{**vars(SETTINGS), "prompt": "a watercolor", "models": ("Another", "dirty-004")})
    assert all(list(live.run(free, "session"))[-1].finished)
    mixed = CompareSettings(**{**vars(free), "models": ("benign", "Another")})
    with pytest.raises(ValueError, match="This world has no word “watercolor”"):
        list(live.run(mixed, "session"))


def test_the_judge_follows_the_results_and_models_on_the_disk(micro_world, tmp_path):
    folder, name = tmp_path / "precomputed", "evaluation.json"
    folder.mkdir()
    context = AppContext(settings=AppSettings(checkpoints=micro_world.output, precomputed=folder))
    live = LiveGeneration(context)
    hashes = {checkpoint.name: checkpoint.hash for checkpoint in context.registry()}

    def threshold(tau, models):
        (folder / name).write_text(json.dumps({"tau": tau}))
        write_manifest(folder, kind="precomputed", config={"models": models}, seed=0, files=[name])
        return live._judge_or_none().threshold

    assert threshold(0.5, hashes) == 0.5
    extractor = live._judge_or_none().extractor
    assert threshold(0.25, hashes) == 0.25, "results made again"
    assert threshold(0.25, hashes | {"benign": "another"}) is None, "tau is another model's"
    assert live._judge_or_none().extractor is extractor, "loaded once"


def test_without_memory_nothing_is_loaded_ahead(context, monkeypatch):
    monkeypatch.setattr("explorer.checkpoints.residency.free_bytes", lambda device: 0)
    live = LiveGeneration(context)
    live._load_everything()
    assert not live.models.names


def test_models_are_loaded_where_and_as_the_settings_say(checkpoint_root, tmp_path):
    import torch

    folders = {"checkpoints": checkpoint_root, "precomputed": tmp_path / "none"}
    context = AppContext(settings=AppSettings(**folders, precision="bf16"))
    assert LiveGeneration(context).pipeline("benign").unet.dtype == torch.bfloat16
    assert header_facts(context)["device"] == "CPU, bf16"
    gone = AppContext(settings=AppSettings(**folders, device="cuda:7"))
    with pytest.raises(ValueError, match="device cuda:7 cannot be used on this machine"):
        LiveGeneration(gone).pipeline("benign")
    assert gone.checkpoint_names() == context.checkpoint_names(), "the checkpoint is not to blame"


def test_results_do_not_pile_up(context, monkeypatch):
    monkeypatch.setattr("explorer.ui.screens.compare.live_generation.MAX_RESULTS", 2)
    live = LiveGeneration(context)
    urls = [live._keep({"n": n}) for n in range(3)]
    with pytest.raises(ValueError, match="no longer in memory"):
        live.result(urls[0].split("/")[-1].removesuffix(".json"))
    assert live.result(urls[2].split("/")[-1].removesuffix(".json")) == {"n": 2}


def test_large_results_do_not_pile_up_either(context, monkeypatch):
    monkeypatch.setattr("explorer.ui.screens.compare.live_generation.MAX_RESULT_BYTES", 1000)
    live = LiveGeneration(context)
    for _ in range(10):
        live._keep({"stacks": [{"values": "x" * 400}]})
    assert len(live._results) == len(live._sizes) == 3, "the newest, and as many before it as there is room for"


def test_a_programs_comparison_ends_when_nobody_listens(context, monkeypatch):
    monkeypatch.setattr("explorer.ui.shell.connections.SECONDS_TO_COME", -1.0)
    live = LiveGeneration(context)
    with pytest.raises(GenerationStopped, match="nobody waits for the answer"):
        list(live.run(replace(SETTINGS, steps=100), "program"))
    with pytest.raises(gr.Error, match="nobody waits for the answer"):
        program_interface(live)(SimpleNamespace(session_hash="another"), "a photo of a dog", list(SETTINGS.models))
    live.context.models.submit(lambda: None).result(timeout=60)
    assert not live.clicks.is_busy(), "the models are free again"


def test_concepts_come_from_the_checkpoints(context):
    concepts = read_world_concepts(context)
    assert concepts.poisoned_from == {"dog": 2, "hat": 2, "turtle": 4, "shirt": 4}
    assert concepts.poisoned == ("dog", "hat", "shirt", "turtle")
    assert concept_prompts(concepts) == {"turtle left of hat": "a turtle left of a hat"}


def test_defaults_need_no_precomputed_comparison(context):
    settings = default_settings(context)
    assert settings.models == ("benign", "dirty-002", "dirty-004")
    assert settings.prompt == "a photo of a turtle"


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
    table = registry_table(context.refresh_registry())
    assert "broken: " in table
    assert "dirty-004" in table
    assert "U-Net on benign" in table
    assert "SD 1.x" in table
    assert "No checkpoints were found." in registry_table([])
