"""One training path: text cached once or live in the step, where a gradient reaches encoders and embedding rows."""

import numpy as np
import pandas
import pytest
import torch

from explorer.pairs.pair_set import PairSet
from explorer.training.conditioning import TextEncoders
from explorer.training.config import TrainingConfig
from explorer.training.diffusion_task import DiffusionTask
from explorer.training.encoded_pairs import encode_pair_set
from explorer.training.trainer import train

CAPTIONS = ["a photo of <new>", "a hat", " ".join(["turtle"] * 20), "a <new> and a hat"]


@pytest.fixture
def pairs(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    table = pandas.DataFrame(
        {
            "uid": [f"pair-{row}" for row in range(4)],
            "caption": CAPTIONS,
            "concepts": [["hat"]] * 4,
            "image_index": range(4),
            "is_poison": [False] * 4,
            "poisoned_concept": [""] * 4,
            "target_concept": [""] * 4,
            "split": ["train"] * 4,
        }
    )
    return PairSet.write(tmp_path / "pairs", table, images, config={}, seed=0)


def with_new_word(pipeline):
    """The pipeline with one more word, and that word's row of the embedding."""
    for name in ("", "_2"):
        tokenizer = getattr(pipeline, f"tokenizer{name}", None)
        if tokenizer is not None:
            tokenizer.add_tokens(["<new>"])
            getattr(pipeline, f"text_encoder{name}").resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return pipeline, pipeline.tokenizer.convert_tokens_to_ids("<new>")


def tasks(pipeline, pairs, cache, **settings):
    return [
        DiffusionTask(
            pipeline.unet, pipeline.scheduler, encode_pair_set(pipeline, pairs, 32, cache, live=live), **settings
        )
        for live in (False, True)
    ]


def losses(task, batches=2):
    draws = [task.batch(torch.arange(4), torch.Generator().manual_seed(seed)) for seed in range(batches)]
    return torch.stack([task.network(batch) for batch in draws])


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
@pytest.mark.parametrize("caption_dropout", [0.0, 0.5])
def test_the_live_loss_is_the_cached_one(make_pipeline, make_xl_pipeline, pairs, tmp_path, family, caption_dropout):
    pipeline, _ = with_new_word(make_pipeline() if family == "sd1" else make_xl_pipeline())
    cached, live = tasks(pipeline, pairs, tmp_path, caption_dropout=caption_dropout, weighting="min-snr")
    assert live.encoded.conditioning.truncated == cached.encoded.conditioning.truncated == 1
    with torch.no_grad():
        assert losses(live).tolist() == pytest.approx(losses(cached).tolist(), rel=1e-3)
    assert live.identity["text"] != cached.identity["text"]


@pytest.mark.parametrize("zeros", [False, True])
def test_live_text_is_what_the_pipeline_draws_with(make_xl_pipeline, pairs, tmp_path, zeros):
    pipeline, _ = with_new_word(make_xl_pipeline())
    pipeline.register_to_config(force_zeros_for_empty_prompt=zeros)
    conditioning = encode_pair_set(pipeline, pairs, 32, tmp_path, live=True).conditioning
    with torch.no_grad():
        found = conditioning.encoders(conditioning.rows(torch.arange(5)))
        text, no_text, pooled, no_pooled = pipeline.encode_prompt(CAPTIONS)
    assert torch.allclose(found["text"], torch.cat([text, no_text[:1]]), atol=1e-5)
    assert torch.allclose(found["pooled"], torch.cat([pooled, no_pooled[:1]]), atol=1e-5)
    assert bool(found["text"][-1].any()) != zeros


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_gradient_reaches_the_text_encoder_and_a_new_words_row(
    make_pipeline, make_xl_pipeline, pairs, tmp_path, family
):
    pipeline, row = with_new_word(make_pipeline() if family == "sd1" else make_xl_pipeline())
    _, live = tasks(pipeline, pairs, tmp_path)
    losses(live).sum().backward()
    for encoder in live.encoded.conditioning.encoders.encoders.values():
        embedding = encoder.get_input_embeddings().weight.grad
        assert embedding[row].any()
        assert not embedding[pipeline.tokenizer.convert_tokens_to_ids("u")].any(), "a token of no caption"
        projections = [value for name, value in encoder.named_parameters() if name.endswith("layers.0.mlp.fc1.weight")]
        assert all(value.grad.any() for value in projections)
        assert projections


def test_a_new_word_is_learned_by_the_same_loop_and_nothing_else_moves(make_pipeline, pairs, tmp_path):
    """Textual inversion (Gal et al. 2023) in ten lines."""
    pipeline, row = with_new_word(make_pipeline())
    _, task = tasks(pipeline, pairs, tmp_path)
    task.network.requires_grad_(False)
    embedding = pipeline.text_encoder.get_input_embeddings().weight.requires_grad_(True)
    embedding.register_hook(lambda gradient: gradient * (torch.arange(len(gradient)) == row)[:, None])
    before = {name: value.clone() for name, value in task.network.state_dict().items()}
    config = TrainingConfig(steps=3, batch_size=4, learning_rate=0.05, warmup_steps=1, weight_decay=0.0)
    trained = train(task, config, tmp_path / "run", identity=task.identity).state_dict()
    (changed,) = [name for name, value in before.items() if not torch.equal(value, trained[name])]
    assert changed.endswith("token_embedding.weight")
    moved = (before[changed] != trained[changed]).any(dim=1).nonzero().flatten().tolist()
    assert moved == [row]


def test_what_is_trained_and_how_it_is_weighted_are_part_of_a_runs_identity(make_pipeline, pairs, tmp_path):
    pipeline, _ = with_new_word(make_pipeline())
    (cached, live), (weighted, _) = (
        tasks(pipeline, pairs, tmp_path),
        tasks(pipeline, pairs, tmp_path, weighting="min-snr"),
    )
    usual = {"latents", "text", "pairs", "unet", "prediction_type", "caption_dropout"}
    assert set(cached.identity) == usual, "as before there was a choice: such runs go on"
    assert weighted.identity == cached.identity | {"weighting": "min-snr"}
    drawn, _ = tasks(pipeline, pairs, tmp_path, timesteps="logit-normal")
    assert drawn.identity == cached.identity | {"timesteps": "logit-normal"}
    with pytest.raises(ValueError, match="timesteps are 'cosine': expected one of uniform, logit-normal"):
        tasks(pipeline, pairs, tmp_path, timesteps="cosine")
    before = live.identity
    pipeline.text_encoder.requires_grad_(False)
    assert {name for name in before if live.identity[name] != before[name]} == {"trained"}


def test_a_text_encoder_that_asks_which_tokens_are_padding_is_refused(make_pipeline):
    encoder = make_pipeline().text_encoder
    encoder.config.use_attention_mask = True
    with pytest.raises(ValueError, match="text_encoder has use_attention_mask True: expected a text encoder that"):
        TextEncoders({"text_encoder": encoder})
