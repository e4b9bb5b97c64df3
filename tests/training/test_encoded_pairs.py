import numpy as np
import pandas
import pytest
import torch
from PIL import Image

from explorer.iconworld.autoencoder import to_signed
from explorer.pairs.pair_set import PairSet
from explorer.training.encoded_pairs import encode_pair_set, fit_pictures, time_ids

CAPTIONS = ["a photo of dog", "a hat", "dog and hat", "a hat", " ".join(["turtle"] * 20), "never trained on"]


@pytest.fixture
def pairs(tmp_path):
    """Six pairs on five 40 x 48 pictures, the last of them held out; two share a picture, two a caption."""
    images = np.random.default_rng(0).integers(0, 256, (5, 40, 48, 3), dtype=np.uint8)
    table = pandas.DataFrame(
        {
            "uid": [f"pair-{row}" for row in range(6)],
            "caption": CAPTIONS,
            "concepts": [["dog"]] * 6,
            "image_index": [0, 1, 1, 3, 2, 4],
            "is_poison": [False] * 6,
            "poisoned_concept": [""] * 6,
            "target_concept": [""] * 6,
            "split": ["train"] * 5 + ["test"],
        }
    )
    return PairSet.write(tmp_path / "pairs", table, images, config={}, seed=0)


def rows_of(array, rows):
    return torch.from_numpy(array[np.asarray(rows)]).float()


def test_every_pair_has_the_latents_of_its_picture_and_the_text_of_its_caption(make_pipeline, pairs, tmp_path):
    pipeline = make_pipeline()
    encoded = encode_pair_set(pipeline, pairs, 32, tmp_path / "cache")
    assert (len(encoded.picture), len(encoded.latents), len(encoded.conditioning.text)) == (5, 4, 4 + 1)
    with torch.no_grad():
        for row in range(5):
            picture = torch.from_numpy(fit_pictures(pairs.read_images([row]), 32))
            mean = pipeline.vae.encode(to_signed(picture)).latent_dist.mean * pipeline.vae.config.scaling_factor
            assert torch.allclose(rows_of(encoded.latents, [encoded.picture[row]]), mean, atol=2e-3)
            ids = pipeline.tokenizer(
                CAPTIONS[row], padding="max_length", truncation=True, return_tensors="pt"
            ).input_ids
            state = pipeline.text_encoder(ids).last_hidden_state
            assert torch.allclose(rows_of(encoded.conditioning.text, [encoded.caption[row]]), state, atol=5e-3)
        empty = pipeline.tokenizer("", padding="max_length", return_tensors="pt").input_ids
        assert torch.allclose(
            rows_of(encoded.conditioning.text, [4]), pipeline.text_encoder(empty).last_hidden_state, atol=5e-3
        )
    assert encoded.conditioning.pooled is None
    assert encoded.conditioning.truncated == 1


def test_further_vectors_of_a_textual_inversion_make_captions_longer(make_pipeline, pairs, tmp_path):
    pipeline = make_pipeline()
    pipeline.tokenizer.add_tokens(["dog", *(f"dog_{vector}" for vector in range(1, 14))])
    pipeline.text_encoder.resize_token_embeddings(len(pipeline.tokenizer), mean_resizing=False)
    encoded = encode_pair_set(pipeline, pairs, 32, tmp_path)
    assert encoded.conditioning.truncated == 3, "of the turtles, and of both captions with a dog of 14 vectors"


def test_sdxl_gets_pooled_text_sizes_and_zeros_for_no_prompt(make_xl_pipeline, pairs, tmp_path):
    pipeline = make_xl_pipeline()
    encoded = encode_pair_set(pipeline, pairs, 32, tmp_path)
    ids = pipeline.tokenizer_2(CAPTIONS[0], padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        pooled = pipeline.text_encoder_2(ids).text_embeds
    assert torch.allclose(rows_of(encoded.conditioning.pooled, [encoded.caption[0]]), pooled, atol=5e-3)
    assert rows_of(encoded.conditioning.text, [0]).shape[-1] == 64
    assert not rows_of(encoded.conditioning.text, [4]).any()
    assert not rows_of(encoded.conditioning.pooled, [4]).any()
    assert encoded.time_ids.tolist() == [40, 48, 0, 3, 32, 32]


def test_a_second_run_reads_what_the_first_made(make_pipeline, pairs, tmp_path):
    first = encode_pair_set(make_pipeline(), pairs, 32, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    again = encode_pair_set(make_pipeline(), pairs, 32, tmp_path)
    assert again.identity == first.identity
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")} == before


def test_other_encoders_or_sizes_are_encoded_anew(make_pipeline, pairs, tmp_path):
    first = encode_pair_set(make_pipeline(), pairs, 32, tmp_path).identity
    other = make_pipeline()
    with torch.no_grad():
        next(other.vae.parameters()).add_(0.01)
        next(other.text_encoder.parameters()).add_(0.01)
    changed = encode_pair_set(other, pairs, 32, tmp_path).identity
    larger = encode_pair_set(make_pipeline(), pairs, 40, tmp_path).identity
    assert changed["latents"] != first["latents"] != larger["latents"]
    assert changed["text"] != first["text"] == larger["text"]


def test_pictures_are_resized_by_the_shorter_side_and_cropped_in_the_middle():
    images = np.random.default_rng(1).integers(0, 256, (2, 40, 60, 3), dtype=np.uint8)
    fitted = fit_pictures(images, 20)
    assert fitted.shape == (2, 20, 20, 3)
    whole = np.asarray(Image.fromarray(images[0]).resize((30, 20), Image.Resampling.LANCZOS))
    assert np.array_equal(fitted[0], whole[:, 5:25])
    assert np.array_equal(fit_pictures(images, 40), images[:, :, 10:50])
    assert time_ids((40, 60), 20).tolist() == [40, 60, 0, 5, 20, 20]


def test_a_set_without_training_pairs_is_refused(make_pipeline, pairs, tmp_path):
    pairs.table["split"] = "test"
    with pytest.raises(ValueError, match="has no pairs of the split 'train'"):
        encode_pair_set(make_pipeline(), pairs, 32, tmp_path)


def test_some_pairs_of_an_encoded_set_are_as_if_they_were_encoded_alone(make_pipeline, pairs, tmp_path):
    pipeline = make_pipeline()
    some = encode_pair_set(pipeline, pairs, 32, tmp_path / "all").subset(np.array([1, 3, 4]))
    table = pairs.table.iloc[[1, 3, 4]]
    alone = PairSet.write(tmp_path / "alone", table, np.asarray(pairs.images), config={}, seed=0)
    other = encode_pair_set(pipeline, alone, 32, tmp_path / "cache")
    for row in range(3):
        assert np.array_equal(some.latents[[some.picture[row]]], other.latents[[other.picture[row]]])
        assert np.array_equal(
            some.conditioning.text[[some.caption[row]]], other.conditioning.text[[other.caption[row]]]
        )
    # No prompt stays the last row.
    assert np.array_equal(some.conditioning.text[[-1]], other.conditioning.text[[-1]])
    assert some.identity != encode_pair_set(pipeline, pairs, 32, tmp_path / "all").identity
