"""Any open_clip model with local weights: what it computes, how it prepares pictures, and what it refuses."""

import json
import shutil

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from explorer.embeddings.open_clip_extractor import load_open_clip, preparation_of

MODEL = "ViT-S-32-alt"
OPENAI_MEAN, HALF = [0.48145466, 0.4578275, 0.40821073], [0.5, 0.5, 0.5]
PICTURES = np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3), np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_file({name: value.clone() for name, value in open_clip.create_model(MODEL).state_dict().items()}, path)
    return path


@pytest.fixture
def folder(tmp_path, open_clip_folder):
    """A copy, to be changed."""
    return shutil.copytree(open_clip_folder, tmp_path / "m")


def test_a_model_by_name_gives_open_clips_own_features(weights, no_network):
    extractor = load_open_clip(MODEL, weights, (0.2, 0.45))
    clip, _, transform = open_clip.create_model_and_transforms(MODEL, pretrained=str(weights))
    with torch.no_grad():
        text = clip.eval().encode_text(open_clip.get_tokenizer(MODEL)(["a cat"]), normalize=True)
        image = clip.encode_image(torch.stack([transform(Image.fromarray(one)) for one in PICTURES]), normalize=True)
    assert torch.allclose(extractor.encode_texts(["a cat"]), text, atol=1e-5)
    assert torch.allclose(extractor.encode_images(PICTURES), image, atol=1e-5)
    assert extractor.preparation["mean"] == OPENAI_MEAN
    assert extractor.preparation["size"] == [224, 224]


def test_a_folder_prepares_pictures_and_captions_as_its_configuration_says(folder, no_network):
    name = f"local-dir:{folder}"
    extractor = load_open_clip(name, folder / "w.safetensors", None)
    _, _, transform = open_clip.create_model_and_transforms(name, load_weights=False)
    expected = torch.stack([transform(Image.fromarray(one)) for one in PICTURES])
    assert torch.equal(extractor.preprocess(PICTURES), expected)
    assert (extractor.name, extractor.preparation["mean"], extractor.preparation["resize_mode"]) == (
        "m",
        HALF,
        "squash",
    )
    assert extractor.encode_images(PICTURES).shape == (2, 16)
    assert extractor.encode_texts(["a photo of a dog", "a photo of a hat"]).shape == (2, 16)


def test_another_preparation_is_another_extractor(folder):
    path = folder / "open_clip_config.json"
    first = load_open_clip(f"local-dir:{folder}", folder / "w.safetensors", None)
    config = json.loads(path.read_text(encoding="utf-8"))
    config["preprocess_cfg"]["mean"] = OPENAI_MEAN
    path.write_text(json.dumps(config), encoding="utf-8")
    second = load_open_clip(f"local-dir:{folder}", folder / "w.safetensors", None)
    assert first.identity != second.identity
    assert not torch.allclose(first.encode_images(PICTURES), second.encode_images(PICTURES), atol=1e-3)


@pytest.mark.parametrize(
    ("model", "tag", "mean"),
    [
        ("ViT-L-14", "laion2b_s32b_b82k", HALF),
        ("ViT-L-14", "openai", OPENAI_MEAN),
        ("ViT-L-14", "default", OPENAI_MEAN),
        ("ViT-B-16-SigLIP", None, HALF),
        ("ViT-B-32-quickgelu", None, OPENAI_MEAN),
        (MODEL, None, OPENAI_MEAN),
    ],
)
def test_tags_decide_where_they_differ_and_need_not_be_named_where_they_agree(model, tag, mean):
    assert preparation_of(model, tag, quick_gelu=tag == "openai")["mean"] == mean


@pytest.mark.parametrize(
    ("model", "tag", "message"),
    [
        ("ViT-L-14", None, "prepare pictures differently, .* expected --pretrained-tag, one of openai, .* or default"),
        ("ViT-L-14", "laion", "pretrained tag is 'laion': expected one of ViT-L-14's, openai,"),
        (MODEL, "openai", f"pretrained tag is 'openai': expected one of {MODEL}'s, default"),
        ("ViT-B-32", "openai", "openai was trained with QuickGELU, .* expected ViT-B-32-quickgelu"),
    ],
)
def test_a_tag_that_is_undecided_unknown_or_of_another_activation_is_told(model, tag, message):
    with pytest.raises(ValueError, match=message):
        preparation_of(model, tag, quick_gelu=False)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("hf-hub:someone/model", "is on the Hugging Face hub, and nothing is downloaded here"),
        ("ViT-B-16-SigLIP-256", "the tokenizer of ViT-B-16-SigLIP-256 .* is on the Hugging Face hub"),
        ("roberta-ViT-B-32", "the text tower of roberta-ViT-B-32 is built from roberta-base on the Hugging Face hub"),
        ("ViT-B-23", r"open_clip knows no model 'ViT-B-23': did you mean ViT-B-32"),
        ("local-dir:nowhere", "open_clip_config.json"),
    ],
)
def test_models_that_need_the_hub_or_do_not_exist_are_refused_without_asking(weights, no_network, model, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_open_clip(model, weights, None)


def test_weights_that_cannot_be_loaded_are_told_in_words(weights, tmp_path):
    with pytest.raises(ValueError, match=r"expected a \.safetensors file; pickled"):
        load_open_clip(MODEL, tmp_path / "weights.pt", None)
    with pytest.raises(FileNotFoundError, match=r"gone\.safetensors is no file"):
        load_open_clip(MODEL, tmp_path / "gone.safetensors", None)
    with pytest.raises(ValueError, match="cannot be loaded as ViT-B-32-256: text pos_embed width changed!"):
        load_open_clip("ViT-B-32-256", weights, None)
    garbage = tmp_path / "garbage.safetensors"
    garbage.write_bytes(b"no weights")
    with pytest.raises(ValueError, match=f"{garbage} cannot be loaded as {MODEL}"):
        load_open_clip(MODEL, garbage, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenizer_kwargs": {"trust_remote_code": True}}, "asks to run code of its own: this is never allowed"),
        ({"hf_model_name": "roberta-base"}, "built from roberta-base on the Hugging Face hub"),
        ({"timm_model_name": "hf-hub:someone/model"}, "the image tower of .* comes from 'hf-hub:someone/model'"),
    ],
)
def test_a_folder_cannot_ask_for_code_or_the_hub(folder, no_network, change, message):
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["model_cfg"]["vision_cfg" if "timm_model_name" in change else "text_cfg"] |= change
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_open_clip(f"local-dir:{folder}", folder / "w.safetensors", None)


def test_names_may_be_written_as_in_the_papers(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected the \.safetensors weights of ViT-B-32"):
        load_open_clip("ViT-B/32", tmp_path / "w.safetensors", None)


def test_a_folder_takes_no_tag(folder):
    with pytest.raises(ValueError, match=r"its own open_clip_config\.json decides"):
        load_open_clip(f"local-dir:{folder}", folder / "w.safetensors", None, pretrained_tag="openai")


def test_captions_that_lose_their_end_are_told_from_those_that_just_fit(weights, folder):
    for extractor, length in (
        (load_open_clip(MODEL, weights, None), 77),
        (load_open_clip(f"local-dir:{folder}", folder / "w.safetensors", None), 12),
    ):
        captions = [" ".join(["dog"] * words) for words in (1, length - 3, length - 2, length - 1, length + 40)]
        assert extractor.cut_captions(captions) == [False, False, False, True, True]
        assert extractor.cut_captions([]) == []
