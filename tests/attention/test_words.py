import json
import unicodedata

import pytest
import torch
from transformers import CLIPTokenizer

from explorer.attention.prompts import text_ranges
from explorer.attention.words import (
    TextRange,
    check_prompt,
    read_lexicon,
    unknown_words,
    word_selection,
    words_of_ranges,
)


def word_groups(tokenizer, prompt):
    return words_of_ranges([TextRange(tokenizer=tokenizer, length=tokenizer.model_max_length)], prompt)


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder):
    return CLIPTokenizer.from_pretrained(tokenizer_folder)


@pytest.fixture(scope="module")
def clip_tokenizer():
    """CLIP's own 49,408 tokens, which open_clip ships."""
    from open_clip.tokenizer import SimpleTokenizer

    own = SimpleTokenizer()
    return CLIPTokenizer(vocab=own.encoder, merges=list(own.bpe_ranks), model_max_length=77)


# Prompts as people write them, and the words of each.
PROMPTS = {
    'A "dog," and\ta t-shirt ... the dog\'s hat!': ["A", "dog", "and", "a", "t-shirt", "the", "dog's", "hat"],
    "1girl,solo,red hair,blue_sky": ["1girl", "solo", "red", "hair", "blue_sky"],
    "a (cat:1.3) on a [hat]": ["a", "cat", "1.3", "on", "a", "hat"],
    "pokemon \\(creature\\), hat": ["pokemon", "creature", "hat"],
    "🐱cat 👩‍🚀 👍🏽🇩🇪": ["🐱", "cat", "👩‍🚀", "👍🏽", "🇩🇪"],
    "一只猫，3D帽子": ["一", "只", "猫", "3D", "帽", "子"],
    "赤い猫とネコのテーブル": ["赤", "い", "猫", "と", "ネコ", "の", "テーブル"],
    "แมว hat": ["แม", "ว", "hat"],
    "고양이 모자, नमस्ते": ["고양이", "모자", "नमस्ते"],
    "a cafe\u0301 cat": ["a", "cafe\u0301", "cat"],
    "a caf\u00e9 cat": ["a", "caf\u00e9", "cat"],
    "İstanbul ǅ straße ﬁre": ["İstanbul", "ǅ", "straße", "ﬁre"],
    "a cat &amp; dog": ["a", "cat", "amp", "dog"],
    "a\u00a0cat\n\u3000hat": ["a", "cat", "hat"],
    "\ufeffcat\u200bhat": ["cat", "hat"],
    "Ａ，cat": ["Ａ", "cat"],
    "cat <|endoftext|> hat": ["cat", "hat"],
    "a <lora:foo:1> cat BREAK dog": ["a", "lora", "foo", "1", "cat", "BREAK", "dog"],
    "don't cat’s rock'n'roll": ["don't", "cat’s", "rock'n'roll"],
    "😂😂 hat": ["😂😂", "hat"],  # CLIP has one token for the pair, so that one map is of both
    "!!! ... --": [],
}


def without_spaces(text):
    return "".join(unicodedata.normalize("NFC", text).lower().split())


@pytest.mark.parametrize("prompt", PROMPTS)
def test_words_of_prompts_as_people_write_them(clip_tokenizer, prompt):
    groups = word_groups(clip_tokenizer, prompt)
    assert list(groups.words) == PROMPTS[prompt]
    ids = clip_tokenizer(prompt, padding="max_length").input_ids
    for word, positions in zip(groups.words, groups.positions, strict=True):
        assert without_spaces(clip_tokenizer.decode([ids[at] for at in positions])) == without_spaces(word)
    taken = {at for positions in groups.positions for at in positions}
    others = clip_tokenizer.decode([ids[at] for at in range(77) if at not in taken], skip_special_tokens=True)
    assert not any(sign.isalnum() for sign in others), "every letter and digit belongs to a word"
    assert torch.equal(groups.matrix.sum(1), torch.ones(77))
    assert groups.matrix[0].argmax() == len(groups.words)


def add_tokens(tokenizer, *names):
    assert tokenizer.add_tokens(list(names)) == len(names)
    return tokenizer


def test_a_textual_inversion_of_several_vectors_is_one_word(make_pipeline):
    pipeline = make_pipeline()
    tokenizer = add_tokens(pipeline.tokenizer, "<cat>", "<cat>_1", "<cat>_2", "<one>")
    prompt = "a <cat>, <one> dog <cat><one> hat"
    groups = word_groups(tokenizer, prompt)
    assert groups.prompt == prompt
    assert groups.words == ("a", "<cat>", "<one>", "dog", "<cat>", "<one>", "hat")
    read = tokenizer(pipeline.maybe_convert_prompt(prompt, tokenizer)).input_ids
    tokens = [[tokenizer.convert_ids_to_tokens(read[at]) for at in positions] for positions in groups.positions]
    vectors = ["<cat>", "<cat>_1", "<cat>_2"]
    assert tokens == [["a</w>"], vectors, ["<one>"], ["dog</w>"], vectors, ["<one>"], ["hat</w>"]]
    check_prompt(tokenizer, "a <cat>, <one> dog")  # the model has an embedding of what its lexicon lacks
    with pytest.raises(ValueError, match="does not know the word 'zebra'"):
        check_prompt(tokenizer, "a <cat> zebra")


def test_further_vectors_count_towards_the_limit(tokenizer_folder):
    tokenizer = add_tokens(CLIPTokenizer.from_pretrained(tokenizer_folder), "*", "*_1", "*_2")
    assert word_groups(tokenizer, "* " * 4 + "dog dog").positions[-1] == (14,)
    with pytest.raises(ValueError, match=r"the prompt '\* .*' has 15 tokens: expected at most 14"):
        word_groups(tokenizer, "* " * 5)


def test_both_encoders_of_sdxl_must_read_the_same_words(make_xl_pipeline, tokenizer_folder):
    pipeline = make_xl_pipeline()
    pipeline.tokenizer_2 = CLIPTokenizer.from_pretrained(tokenizer_folder)
    pipeline.tokenizer_2.pad_token = ","  # as in SDXL, whose second tokenizer pads with "!"
    assert words_of_ranges(text_ranges(pipeline), "a dog").positions == ((1,), (2,))
    add_tokens(pipeline.tokenizer, "<cat>", "<cat>_1")
    with pytest.raises(ValueError, match="two CLIP tokenizers cut 'a <cat> dog' differently"):
        words_of_ranges(text_ranges(pipeline), "a <cat> dog")
    add_tokens(pipeline.tokenizer_2, "<cat>", "<cat>_1")
    assert words_of_ranges(text_ranges(pipeline), "a <cat> dog").positions == ((1,), (2, 3), (4,))


def test_a_tokenizer_that_pads_in_front_moves_every_word(tokenizer_folder):
    tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder)
    tokenizer.padding_side = "left"
    groups = word_groups(tokenizer, "a dog")
    assert groups.positions == ((13,), (14,))
    assert groups.matrix[12, 2] == 1, "the start token"


def test_a_tokenizer_without_a_length_is_refused(tokenizer_folder):
    tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder)
    with pytest.raises(ValueError, match=r"length is 1e\+30: expected at most 65536"):
        words_of_ranges([TextRange(tokenizer=tokenizer, length=int(1e30))], "a dog")


def test_what_is_several_words_is_found_where_they_stand_together(clip_tokenizer):
    groups = word_groups(clip_tokenizer, "red hat, hair, Red hair, 帽子")
    assert groups.indices_of("red hair") == (3, 4)
    assert groups.indices_of("帽子") == (5, 6)
    assert groups.indices_of("hat red") == groups.indices_of("!") == ()


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
    with pytest.raises(ValueError, match=r"the prompt 'dog dog.*' has 15 tokens: expected at most 14"):
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
    selection = word_selection([TextRange(tokenizer=tokenizer, length=16)], prompt, ("hat", "turtle"))
    assert selection.shape == (16, 3)
    assert torch.equal(selection.sum(1), torch.ones(16))
    assert torch.equal(selection[:, 0], groups.matrix[:, list(groups.indices_of("hat"))].sum(1))
    assert selection[:, 0].sum() == 2 * len(tokenizer.tokenize("hat"))


def test_a_selection_of_an_absent_word_is_refused(tokenizer):
    with pytest.raises(ValueError, match=r"does not hold \['dog'\]"):
        word_selection([TextRange(tokenizer=tokenizer, length=16)], "a hat", ("hat", "dog"))
