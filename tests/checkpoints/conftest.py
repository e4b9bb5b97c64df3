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
