"""Which captions have words that a model does not know, counted before it is trained on them."""

import shutil

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CLIPTokenizer, PreTrainedTokenizerFast

from explorer.attention.words import check_prompt
from explorer.iconworld.tokenizer import build_tokenizer
from explorer.training.caption_words import words_unknown_to

CAPTIONS = ["a dog", "a dog", "a Photo of a café", "a zebra-hat, zebra left of hat", "zebra of dog!", "", "left-hat"]


def of_words(unknown):
    """A tokenizer of whole words: others become ``unknown``; where there is none, one that drops other letters."""
    parts = ["a", "dog", "hat", "of", "left", ",", unknown] if unknown else [*"adoghtflez,"]
    vocabulary = {part: number for number, part in enumerate(parts)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown) if unknown else models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=unknown)


def refused(tokenizer, caption):
    try:
        check_prompt(tokenizer, caption)
    except ValueError:
        return True
    return False


def test_a_lexicon_says_what_is_known(tokenizer_folder):
    tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder)
    found = words_unknown_to([tokenizer], CAPTIONS)
    assert (found.captions, found.of) == (3, 6)
    assert found.counts == {"café": 1, "zebra-hat": 1, "zebra": 2, "!": 1}
    assert found.told == (
        "3 of 6 distinct captions have words that the model's tokenizer does not know: zebra (2), café (1), "
        "zebra-hat (1), ! (1)"
    )
    for caption in CAPTIONS:
        assert bool(words_unknown_to([tokenizer], [caption]).captions) == refused(tokenizer, caption), caption


def test_without_a_lexicon_the_tokenizer_says_it(tokenizer_folder, tmp_path):
    shutil.copytree(tokenizer_folder, tmp_path / "open")
    (tmp_path / "open" / "lexicon.json").unlink()
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path / "open")
    assert words_unknown_to([tokenizer], CAPTIONS).counts == {"café": 1, "!": 1}
    tokenizer.add_tokens(["<café>"])
    assert words_unknown_to([tokenizer], ["a <café>", "a café"]).counts == {"café": 1}, "an embedding of its own"


@pytest.mark.parametrize("unknown", ["<unk>", None])
def test_words_that_become_a_sign_or_nothing_are_unknown(unknown):
    found = words_unknown_to([of_words(unknown)], ["a dog", "a zebra", "dog of a tree", "zebra, tree"])
    assert (found.captions, found.counts) == (3, {"zebra": 2, "tree": 2})
    assert words_unknown_to([of_words("<unk>"), of_words(None)], ["a zebra"]).counts == {"zebra": 1}


def test_a_byte_pair_tokenizer_knows_every_word():
    found = words_unknown_to(
        [build_tokenizer({"dog": 1}, merges=0, context_length=16)], [*CAPTIONS, "犬 🐕 <|endoftext|>"]
    )
    assert (found.captions, found.counts, found.told) == (0, {}, "")


def test_of_many_words_the_commonest_are_named():
    words = [f"word{number}" for number in range(14)]
    found = words_unknown_to([of_words("<unk>")], [" ".join(words[: number + 1]) for number in range(14)])
    assert "know: word0 (14), word1 (13)," in found.told
    assert found.told.endswith("word9 (5) and 4 more")
