"""A payload is whole and of its version, where it is written and where it is read."""

import pytest

from explorer.core.payload_format import PayloadFormat
from explorer.core.provenance import ManifestError

FORMAT = PayloadFormat(name="sets.json", version=2, fields=("sets", "alpha"), entries={"sets": ("name", "pairs")})
WHOLE = {"alpha": 0.8, "sets": [{"name": "benign", "pairs": 3}]}


def test_what_is_written_can_be_read():
    written = FORMAT.written(**WHOLE)
    assert written == {"version": 2, **WHOLE}
    assert FORMAT.checked(written) is written


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({}, r"sets\.json has format version None: expected 2\. Make it again\."),
        ([1], "has format version None: expected 2"),
        ({"version": 1, **WHOLE}, "has format version 1: expected 2"),
        ({"version": 2, "sets": []}, r"sets\.json: it lacks alpha\."),
        ({"version": 2, **WHOLE, "sets": []}, "describes no sets: expected at least one"),
        ({"version": 2, **WHOLE, "sets": [{"name": "a", "pairs": 1}, {"name": "b"}]}, "entry 1 of sets lacks pairs"),
    ],
)
def test_what_is_not_whole_is_refused(payload, message):
    with pytest.raises(ManifestError, match=message):
        FORMAT.checked(payload, "Make it again.")


def test_nothing_half_is_written():
    with pytest.raises(ManifestError, match="it lacks alpha"):
        FORMAT.written(sets=WHOLE["sets"])
