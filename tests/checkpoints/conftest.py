"""What the tests of this room count."""

from collections import Counter

import pytest

from explorer.checkpoints import weight_files
from explorer.core import bounded_files


@pytest.fixture
def opened(monkeypatch):
    """How often we open each JSON file and each safetensors header, by path; libraries and hashing do not count."""
    counts = Counter()
    open_regular = bounded_files.open_regular

    def count(path):
        counts[str(path)] += 1
        return open_regular(path)

    for module in (bounded_files, weight_files):
        monkeypatch.setattr(module, "open_regular", count)
    return counts


@pytest.fixture(scope="module")
def sdxl(make_xl_pipeline, tmp_path_factory):
    """A whole SDXL pipeline's folder; nobody may change it."""
    folder = tmp_path_factory.mktemp("xl") / "xl"
    make_xl_pipeline().save_pretrained(folder)
    return folder
