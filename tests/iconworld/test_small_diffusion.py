import json
from collections import Counter

import numpy as np
import pytest
import torch

from explorer.core.provenance import ManifestError
from explorer.embeddings.universal_extractor import (
    TOKENIZER_FOLDER,
    UniversalExtractor,
    build_clip,
    save_extractor,
    small_clip_config,
)
from explorer.iconworld.autoencoder import (
    build_autoencoder,
    decode_latents,
    encode_images,
    peak_signal_to_noise,
    to_pixels,
    to_signed,
)
from explorer.iconworld.denoiser import build_denoiser
from explorer.iconworld.text_encoder import convert_text_tower
from explorer.iconworld.tokenizer import build_tokenizer, encode, save_tokenizer

COUNTS = {"a": 90, "photo": 80, "of": 80, "cat": 9, "hat": 8, "hourglass": 1, "butterfly": 1}


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(COUNTS, merges=14, context_length=16)


@pytest.fixture(scope="module")
def clip(tokenizer):
    config = small_clip_config(len(tokenizer), 16)
    return build_clip(config, seed=3).eval(), config


def test_frequent_words_are_one_token_and_rare_ones_several(tokenizer):
    assert tokenizer.tokenize("a photo of a cat") == ["a</w>", "photo</w>", "of</w>", "a</w>", "cat</w>"]
    assert len(tokenizer.tokenize("hourglass")) > 1
    assert tokenizer.convert_tokens_to_string(tokenizer.tokenize("hourglass")).replace("</w>", "") == "hourglass"


def test_the_end_token_has_the_highest_id_and_pads(tokenizer):
    ids = encode(tokenizer, ["a cat", "a photo of a hat"])
    assert ids.shape == (2, 16)
    assert tokenizer.eos_token_id == len(tokenizer) - 1
    assert (ids[:, -1] == tokenizer.eos_token_id).all()
    assert (ids[:, 0] == tokenizer.bos_token_id).all()


def test_a_caption_longer_than_the_context_is_refused(tokenizer):
    with pytest.raises(ValueError, match="tokens: expected at most 16"):
        encode(tokenizer, ["a cat", "hat " * 20])


def test_the_tokenizer_survives_saving(tokenizer, tmp_path):
    from transformers import CLIPTokenizer

    save_tokenizer(tokenizer, ["hat", "cat"], tmp_path)
    again = CLIPTokenizer.from_pretrained(tmp_path)
    assert again("a photo of an hourglass, a hat").input_ids == tokenizer("a photo of an hourglass, a hat").input_ids
    assert again.model_max_length == 16
    assert json.loads((tmp_path / "lexicon.json").read_text()) == ["cat", "hat"]


def test_the_converted_text_tower_equals_open_clips(tokenizer, clip):
    network, config = clip
    model = convert_text_tower(network, config, tokenizer.eos_token_id)
    ids = encode(tokenizer, ["a photo of a cat", "hourglass", ""])
    with torch.no_grad():
        ours = model(ids)
        states = network.token_embedding(ids) + network.positional_embedding
        theirs = network.ln_final(network.transformer(states, attn_mask=network.attn_mask))
        pooled = network.encode_text(ids)
    assert torch.allclose(ours.last_hidden_state, theirs, atol=1e-4)
    assert torch.allclose(ours.pooler_output @ network.text_projection, pooled, atol=1e-4)


def test_an_extractor_survives_saving_in_half_precision(tokenizer, clip, tmp_path):
    network, config = clip
    save_tokenizer(tokenizer, sorted(COUNTS), tmp_path / TOKENIZER_FOLDER)
    save_extractor(tmp_path, network, config, name="tiny", feature_range=(0.1, 0.6), config={}, seed=3,
                   data_hash="x", metrics={})  # fmt: skip
    extractor = UniversalExtractor.load(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)
    features = extractor.encode_images(images)
    texts = extractor.encode_texts(["a cat", "a hat", "a cat"])
    assert extractor.feature_range == (0.1, 0.6)
    assert torch.allclose(features.norm(dim=1), torch.ones(5), atol=1e-5)
    assert torch.equal(texts[0], texts[2])
    assert not torch.allclose(texts[0], texts[1])
    assert torch.allclose(extractor.encode_images(images, batch_size=2), features, atol=1e-5)


def test_a_changed_extractor_file_is_noticed(tokenizer, clip, tmp_path):
    network, config = clip
    save_tokenizer(tokenizer, sorted(COUNTS), tmp_path / TOKENIZER_FOLDER)
    save_extractor(tmp_path, network, config, name="tiny", feature_range=(0.1, 0.6), config={}, seed=3,
                   data_hash="x", metrics={})  # fmt: skip
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ManifestError, match=r"config\.json has SHA-256"):
        UniversalExtractor.load(tmp_path)


def test_only_uint8_pictures_are_encoded(tokenizer, clip, tmp_path):
    network, config = clip
    save_tokenizer(tokenizer, sorted(COUNTS), tmp_path / TOKENIZER_FOLDER)
    save_extractor(tmp_path, network, config, name="tiny", feature_range=(0.1, 0.6), config={}, seed=3,
                   data_hash="x", metrics={})  # fmt: skip
    with pytest.raises(ValueError, match=r"images are float64 \(2, 64, 64, 3\): expected uint8"):
        UniversalExtractor.load(tmp_path).encode_images(np.zeros((2, 64, 64, 3)))


def test_autoencoder_shapes_and_pixel_conversion():
    images = torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    autoencoder = build_autoencoder((16, 16, 32)).eval()
    latents = encode_images(autoencoder, images, batch_size=2)
    assert latents.shape == (3, 4, 16, 16)
    assert decode_latents(autoencoder, latents, batch_size=2).shape == images.shape
    assert torch.equal(to_pixels(to_signed(images)), images)


def test_psnr_of_a_known_error():
    clean = torch.full((2, 8, 8, 3), 100, dtype=torch.uint8)
    off_by_ten = clean + 10
    assert peak_signal_to_noise(off_by_ten, clean).tolist() == pytest.approx([28.1308] * 2, abs=1e-3)


def test_where_the_denoiser_attends_to_the_text():
    unet = build_denoiser((16, 32, 32), text_width=24)
    positions, reads_text = Counter(), Counter()

    def hook(module, inputs, keywords):
        positions[inputs[0].shape[1]] += 1
        reads_text[inputs[0].shape[1]] += keywords.get("encoder_hidden_states") is not None

    for name, module in unet.named_modules():
        if name.rpartition(".")[2] in ("attn1", "attn2"):
            module.register_forward_pre_hook(hook, with_kwargs=True)
    output = unet(torch.randn(2, 4, 16, 16), torch.tensor([1, 2]), torch.randn(2, 5, 24)).sample
    assert output.shape == (2, 4, 16, 16)
    assert reads_text == {16 * 16: 6, 8 * 8: 3, 4 * 4: 1}
    assert positions == {16 * 16: 6, 8 * 8: 6, 4 * 4: 2}, "no self-attention at 16 x 16, beside every reader elsewhere"
