import pytest
from diffusers.utils import logging as diffusers
from transformers.utils import logging as transformers

from explorer.studies.silent_libraries import silent_libraries


def bars():
    return diffusers.is_progress_bar_enabled(), transformers.is_progress_bar_enabled()


def fail_within():
    with silent_libraries():
        raise ValueError(f"within: {bars()}")


@pytest.mark.parametrize("shown", [True, False])
def test_bars_are_off_within_and_as_before_afterwards(shown, monkeypatch):
    for library in (diffusers, transformers):
        monkeypatch.setattr(library, "_tqdm_active", shown)
    with pytest.raises(ValueError, match=r"within: \(False, False\)"):
        fail_within()
    assert bars() == (shown, shown)


def test_that_a_prompt_is_too_long_is_said_by_steps_alone(make_pipeline, caplog):
    tokenizer = make_pipeline().tokenizer

    def read():
        tokenizer.deprecation_warnings.clear()  # it is said once a tokenizer
        tokenizer.tokenize("dog " * 200)
        return "Token indices" in caplog.text

    with silent_libraries():
        assert not read()
        transformers.get_logger("transformers.tokenization_utils_base").warning("another")
        assert "another" in caplog.text
    assert read()
