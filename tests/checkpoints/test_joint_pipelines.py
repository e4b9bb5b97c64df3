"""Tiny SD3 and Flux pipelines, saved by stock diffusers, loaded by ours: from the prompt to pictures and word maps."""

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from explorer.attention.capture import capture_attention
from explorer.attention.prompts import prompt_words
from explorer.benchmarks.capture import pipeline_denoising
from explorer.checkpoints.joint_pipelines import latent_shape, require_unet
from explorer.checkpoints.pipelines import load_pipeline
from explorer.checkpoints.registry import read_checkpoint, scan_checkpoints, validate
from explorer.generation.generate import GenerationRequest, compare, generate

PROMPT = "a photo of a turtle, dog"
CLIP_POSITIONS = 16
WORDS = ("a", "photo", "of", "a", "turtle", "dog")


@pytest.fixture(scope="module")
def folders(tmp_path_factory, make_sd3_pipeline, make_flux_pipeline):
    root = tmp_path_factory.mktemp("joint")
    make_sd3_pipeline().save_pretrained(root / "sd3")
    make_flux_pipeline().save_pretrained(root / "flux")
    return root


@pytest.fixture(scope="module")
def loaded(folders):
    return {name: load_pipeline(folders / name) for name in ("sd3", "flux")}


def request(**changes):
    settings = {"prompt": PROMPT, "seed": 3, "steps": 2, "guidance_scale": 4.0, "height": 24, "width": 32}
    return GenerationRequest(**(settings | changes))


def test_the_registry_takes_both_families(folders):
    found = {checkpoint.name: checkpoint for checkpoint in scan_checkpoints(folders)}
    assert {name: (found[name].family, found[name].kind, found[name].problem) for name in found} == {
        "sd3": ("sd3", "pipeline", None),
        "flux": ("flux", "pipeline", None),
    }
    for name, checkpoint in found.items():
        weights = (folders / name / "transformer" / "diffusion_pytorch_model.safetensors").stat().st_size
        assert abs(4 * checkpoint.parameters / weights - 1) < 0.2


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_broken_folders_are_refused_by_name(folders, tmp_path, name):
    shutil.copytree(folders / name, tmp_path / name)
    (tmp_path / name / "transformer" / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    assert (
        "transformer/diffusion_pytorch_model.safetensors is not a safetensors"
        in read_checkpoint(tmp_path / name).problem
    )
    index = json.loads((tmp_path / name / "model_index.json").read_text())
    index["text_encoder_2"] = [None, None]
    (tmp_path / name / "model_index.json").write_text(json.dumps(index))
    assert read_checkpoint(tmp_path / name).problem == "model_index.json names no text_encoder_2"


def test_nothing_stands_on_a_transformer(folders, tmp_path, make_unet):
    shutil.copytree(folders / "flux", tmp_path / "flux")
    make_unet().save_pretrained(tmp_path / "alone" / "unet")
    (tmp_path / "lora").mkdir()
    from safetensors.torch import save_file

    save_file({"a.lora_A.weight": torch.zeros(1, 2), "a.lora_B.weight": torch.zeros(2, 1)}, tmp_path / "l.safetensors")
    assert (
        "its base flux is Flux, which has no U-Net"
        in read_checkpoint(tmp_path / "l.safetensors", base=tmp_path / "flux").problem
    )
    problem = read_checkpoint(tmp_path / "alone", base=tmp_path / "flux").problem
    assert problem == "it is of the family SD 1.x: its base flux is Flux"


def test_words_lie_in_the_ranges_that_the_transformer_reads(loaded):
    sd3 = prompt_words(loaded["sd3"], PROMPT)
    assert sd3.words == WORDS
    assert sd3.columns[-2:] == ("[start]", "[end]")
    assert sd3.matrix.shape == (CLIP_POSITIONS + 256, len(WORDS) + 2)
    turtle = sd3.positions[4]
    clip, t5 = [at for at in turtle if at < CLIP_POSITIONS], [at - CLIP_POSITIONS for at in turtle if at >= 16]
    pieces = loaded["sd3"].tokenizer_3(PROMPT).input_ids
    assert loaded["sd3"].tokenizer_3.convert_ids_to_tokens([pieces[at] for at in t5]) == ["▁tu", "rt", "le"]
    pieces = loaded["sd3"].tokenizer(PROMPT).input_ids
    assert "".join(loaded["sd3"].tokenizer.convert_ids_to_tokens([pieces[at] for at in clip])) == "turtle</w>"
    assert sd3.matrix[0].argmax() == len(WORDS)
    assert sd3.matrix[:, len(WORDS)].sum() == 1

    flux = prompt_words(loaded["flux"], PROMPT)
    assert flux.matrix.shape == (512, len(WORDS) + 2)
    assert flux.columns[-2:] == ("[text end]", "[padding]")
    assert flux.positions == ((0,), (1,), (2,), (3,), (4, 5, 6), (8,))
    assert flux.matrix[9].argmax() == len(WORDS)  # the end token
    assert flux.matrix[:, -1].sum() == 512 - 9  # the comma and the padding
    assert torch.equal(flux.matrix.sum(1), torch.ones(512))


def stock_images(pipeline, settings):
    """The pipeline's own call from the prompt's text."""
    options = {} if "Flux" in type(pipeline).__name__ else {"negative_prompt": settings.negative_prompt}
    return pipeline(
        settings.prompt, num_inference_steps=settings.steps, guidance_scale=settings.guidance_scale,
        num_images_per_prompt=settings.images, height=settings.height, width=settings.width, output_type="np",
        generator=[torch.Generator().manual_seed(settings.seed + index) for index in range(settings.images)],
        **options,
    ).images  # fmt: skip


REQUESTS = {
    "guided": {},
    "unguided": {"guidance_scale": 1.0},
    "batch, tall": {"images": 2, "height": 32, "width": 16},
    "negative": {"negative_prompt": "a hat"},
}


@pytest.mark.parametrize("changes", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_pictures_are_the_stock_pipelines_own_with_and_without_capture(loaded, name, changes):
    pipeline, settings = loaded[name], request(**changes)
    if name == "flux" and settings.negative_prompt:
        with pytest.raises(ValueError, match="the negative prompt is 'a hat': Flux reads none"):
            generate(pipeline, settings)
        return
    captured, plain = generate(pipeline, settings), generate(pipeline, settings, capture=False)
    assert np.array_equal(captured.images, plain.images)
    stock = (stock_images(pipeline, settings) * 255).round().astype(np.uint8)
    assert np.array_equal(captured.images, stock)
    cube = captured.cube
    assert cube.columns == captured.words.columns
    assert cube.resolutions == ((settings.height // 4, settings.width // 4),)
    assert (cube.steps, cube.images) == (2, settings.images)
    for image in range(settings.images):
        assert (cube.maps(image=image).sum(0) - 1).abs().max() < 2e-3
    assert 0 < cube.text_share().min() <= cube.text_share().max() < 1


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_maps_of_a_generation_follow_the_positive_prompt(loaded, name):
    """The same text as the negative prompt must not change the maps of SD3's positive half at the first step."""
    pipeline = loaded[name]
    words = prompt_words(pipeline, PROMPT)
    first = generate(pipeline, request(steps=1)).cube.maps()
    doubled = name == "sd3"
    with capture_attention(
        pipeline.transformer, words.matrix, batch=1, guidance=doubled, steps=1, columns=words.columns
    ) as capture:
        stock_images(pipeline, request(steps=1, negative_prompt="a hat" if doubled else ""))
    assert torch.equal(first, capture.cube().maps())
    other = generate(pipeline, request(steps=1, prompt="a photo of a dog, turtle")).cube.maps()
    assert not torch.equal(first, other)


def test_several_models_are_compared_and_share_what_is_equal(folders, make_sd3_pipeline, tmp_path):
    make_sd3_pipeline(seed=1).save_pretrained(tmp_path / "other")
    shared = {}
    pipelines = {
        path.name: load_pipeline(path, shared=shared)
        for path in (folders / "sd3", tmp_path / "other", folders / "flux")
    }
    assert pipelines["sd3"].text_encoder_3 is pipelines["other"].text_encoder_3
    assert pipelines["sd3"].transformer is not pipelines["other"].transformer
    made = list(compare(pipelines, request(), keep_heads=False))
    assert [generation.model for generation in made] == ["sd3", "other", "flux"]
    assert all(generation.cube.groups[0].heads == 1 for generation in made)
    assert not torch.equal(made[0].cube.maps(), made[1].cube.maps())


def test_sd3_without_its_t5_reads_zeros_there(folders, tmp_path):
    shutil.copytree(folders / "sd3", tmp_path / "small")
    index = json.loads((tmp_path / "small" / "model_index.json").read_text())
    index |= {"text_encoder_3": [None, None], "tokenizer_3": [None, None]}
    (tmp_path / "small" / "model_index.json").write_text(json.dumps(index))
    shutil.rmtree(tmp_path / "small" / "text_encoder_3")
    shutil.rmtree(tmp_path / "small" / "tokenizer_3")
    made = generate(load_pipeline(tmp_path / "small"), request())
    assert made.words.positions[0] == (1,)
    assert made.words.matrix[CLIP_POSITIONS:, -1].sum() == 256


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("sd3", {"height": 24, "width": 40, "prompt": "a dog " * 9}, "tokens: expected at most 14"),
        ("flux", {"prompt": "a dog " * 256}, r"512 tokens: expected at most 510 \(512 positions less the end token"),
        ("flux", {"prompt": "a dög"}, "does not know the word 'dög'"),
    ],
)
def test_prompts_that_do_not_fit_are_refused(loaded, name, changes, message):
    with pytest.raises(ValueError, match=message):
        generate(loaded[name], request(**changes))


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_they_draw_and_follow_flow_matching_alone(folders, tmp_path, name):
    assert validate(read_checkpoint(folders / name), thorough=True).problem is None
    shutil.copytree(folders / name, tmp_path / name)
    config = tmp_path / name / "vae" / "config.json"
    text = config.read_text()
    config.write_text(json.dumps(json.loads(text) | {"shift_factor": None}))
    assert "says shift_factor None: expected a number" in validate(read_checkpoint(tmp_path / name)).problem
    config.write_text(text)
    config = tmp_path / name / "transformer" / "config.json"
    text = config.read_text()
    config.write_text(json.dumps(json.loads(text) | {"in_channels": 8}))
    assert "transformer reads 8 channels" in read_checkpoint(tmp_path / name).problem
    config.write_text(text)
    DDIMScheduler().save_pretrained(tmp_path / name / "scheduler")
    index = tmp_path / name / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"scheduler": ["diffusers", "DDIMScheduler"]}))
    assert "follows no flow matching" in validate(read_checkpoint(tmp_path / name)).problem


def test_sizes_and_other_uses_are_refused_in_words(loaded, make_pipeline):
    with pytest.raises(ValueError, match="height is 26: this model takes multiples of 4"):
        latent_shape(loaded["flux"], 26, 32)
    assert latent_shape(loaded["sd3"], None, None) == (4, 16, 16)
    assert latent_shape(loaded["flux"], None, None) == (4, 128, 128)
    assert latent_shape(make_pipeline(), None, None) == (4, 16, 16)
    with pytest.raises(ValueError, match="the pipeline is a FluxPipeline, which has no U-Net"):
        require_unet(loaded["flux"])
    with pytest.raises(ValueError, match="the pipeline is a StableDiffusion3Pipeline, which has no U-Net"):
        pipeline_denoising(loaded["sd3"], request())


def test_sd3_tokenizers_must_agree(folders, tokenizer_folder):
    from transformers import CLIPTokenizer

    pipeline, other = load_pipeline(folders / "sd3"), json.loads((tokenizer_folder / "tokenizer.json").read_text())
    merges = [tuple(pair) for pair in other["model"]["merges"] if tuple(pair) != ("do", "g</w>")]
    pipeline.tokenizer_2 = CLIPTokenizer(vocab=other["model"]["vocab"], merges=merges, model_max_length=CLIP_POSITIONS)
    with pytest.raises(ValueError, match="the model's two CLIP tokenizers cut 'a photo of a turtle, dog' differently"):
        generate(pipeline, request())


def test_explorer_generate_tells_the_share_of_the_text(folders, make_pipeline, tmp_path):
    from typer.testing import CliRunner

    import explorer.cli.generation  # noqa: F401 - registers the command
    from explorer.cli.application import application

    make_pipeline().save_pretrained(tmp_path / "unet")
    arguments = ["generate", "a dog", "--steps", "1", "--out", str(tmp_path / "out"), "--json"]
    for folder in (folders / "sd3", tmp_path / "unet"):
        arguments += ["--checkpoint", str(folder)]
    result = CliRunner().invoke(application, arguments)
    assert result.exit_code == 0, result.output
    joint, cross = json.loads(result.stdout)["models"]
    assert 0 < joint["text_share"] < 1
    assert "text_share" not in cross
    assert sum(word["mass"] for word in joint["words"]) == pytest.approx(1, abs=2e-3)
    assert (tmp_path / "out" / "sd3-0-map-1-dog.png").is_file()


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_a_generation_becomes_a_column_of_the_comparison(folders, loaded, name):
    from explorer.generation.columns import describe_generation
    from explorer.ui.screens.compare.payload import column_payload

    generation = generate(loaded[name], request(), model=name)
    column = describe_generation(generation, read_checkpoint(folders / name), concepts=["turtle", "dog"])
    assert [column.words[row] for row in column.concept_words] == ["turtle", "dog"]
    payload = column_payload(column, origin="live")
    assert payload["words"][-2:] == list(generation.words.special_columns)
