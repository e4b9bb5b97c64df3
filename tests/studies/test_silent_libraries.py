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
