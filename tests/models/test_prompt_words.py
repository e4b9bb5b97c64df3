import json

import pytest
import torch
from transformers import CLIPTokenizer

from explorer.models.prompt_words import (
    check_prompt,
    read_lexicon,
    split_words,
    unknown_words,
    word_groups,
    word_selection,
)


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder):
    return CLIPTokenizer.from_pretrained(tokenizer_folder)


def test_punctuation_is_not_part_of_a_word():
    prompt = 'A "dog," and\ta t-shirt ... the dog\'s hat!'
    words = [prompt[start:stop] for start, stop in split_words(prompt)]
    assert words == ["A", "dog", "and", "a", "t-shirt", "the", "dog's", "hat"]


def test_pieces_are_merged_and_rows_sum_to_one(tokenizer):
    groups = word_groups(tokenizer, "a turtle, dog")
    pieces = tokenizer.tokenize("turtle")
    assert len(pieces) > 1
    last = 1 + len(pieces)
    assert groups.words == ("a", "turtle", "dog")
    assert groups.positions == ((1,), tuple(range(2, last + 1)), (last + 2,))
    assert groups.columns == ("a", "turtle", "dog", "[start]", "[end]")
    assert groups.matrix.shape == (16, 5)
    assert torch.equal(groups.matrix.sum(1), torch.ones(16))
    assert groups.matrix[0, 3] == 1
    assert groups.matrix[last + 1, 4] == 1, "the comma belongs to no word"
    assert groups.matrix[last + 3 :, 4].all()


def test_positions_are_where_the_tokenizer_put_the_words(tokenizer):
    prompt = "  A photo\t of   t-shirt,  Dog"
    ids = tokenizer(prompt).input_ids
    groups = word_groups(tokenizer, prompt)
    for word, positions in zip(groups.words, groups.positions, strict=True):
        expected = tokenizer(word, add_special_tokens=False).input_ids
        assert [ids[position] for position in positions] == expected


def test_repeated_words_stay_separate(tokenizer):
    groups = word_groups(tokenizer, "dog and Dog")
    assert groups.indices_of("dog") == (0, 2)
    assert groups.positions[0] != groups.positions[2]
    assert groups.indices_of("hat") == ()


def test_empty_prompt_has_only_start_and_rest(tokenizer):
    groups = word_groups(tokenizer, "")
    assert groups.words == ()
    assert groups.matrix.sum(0).tolist() == [1, 15]


def test_a_prompt_of_exactly_the_limit_fits_and_one_more_is_refused(tokenizer):
    assert len(word_groups(tokenizer, " ".join(["dog"] * 14)).words) == 14
    with pytest.raises(ValueError, match="the prompt has 15 tokens: expected at most 14"):
        word_groups(tokenizer, " ".join(["dog"] * 15))


def test_unknown_words_are_named_once(tokenizer_folder):
    assert unknown_words(tokenizer_folder, "a Wolf, dog and wolf t-shirt") == ["Wolf", "wolf"]
    assert unknown_words(["a", "dog"], "a dog") == []
    assert unknown_words(tokenizer_folder.parent, "anything goes") == []


def test_check_prompt_refuses_unknown_words_and_unknown_characters(tokenizer):
    check_prompt(tokenizer, "a photo of a dog")
    with pytest.raises(ValueError, match="does not know the words 'zebra', 'ß'"):
        check_prompt(tokenizer, "a zebra and ß")
    with pytest.raises(ValueError, match="does not know the word '«'"):
        check_prompt(tokenizer, "a « dog")


def test_a_tokenizer_without_lexicon_knows_every_word(tokenizer_folder, tmp_path):
    CLIPTokenizer.from_pretrained(tokenizer_folder).save_pretrained(tmp_path)
    check_prompt(CLIPTokenizer.from_pretrained(tmp_path), "a zebra")
    assert read_lexicon(tmp_path) is None


@pytest.mark.parametrize("content", ["{", json.dumps({"a": 1}), json.dumps([1])])
def test_a_broken_lexicon_is_refused(tmp_path, content):
    (tmp_path / "lexicon.json").write_text(content)
    with pytest.raises(ValueError, match=r"lexicon\.json"):
        read_lexicon(tmp_path)


def test_a_selection_keeps_the_named_words_and_sums_to_one(tokenizer):
    prompt = "hat, turtle, hat"
    groups = word_groups(tokenizer, prompt)
    selection = word_selection(tokenizer, prompt, ("hat", "turtle"))
    assert selection.shape == (16, 3)
    assert torch.equal(selection.sum(1), torch.ones(16))
    assert torch.equal(selection[:, 0], groups.matrix[:, list(groups.indices_of("hat"))].sum(1))
    assert selection[:, 0].sum() == 2 * len(tokenizer.tokenize("hat"))


def test_a_selection_of_an_absent_word_is_refused(tokenizer):
    with pytest.raises(ValueError, match=r"does not hold \['dog'\]"):
        word_selection(tokenizer, "a hat", ("hat", "dog"))
