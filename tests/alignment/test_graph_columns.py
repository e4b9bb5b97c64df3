"""Binary columns: what is written is read again, and a header that does not fit is refused."""

import numpy as np
import pytest

from explorer.alignment.graph_columns import Columns, text_columns, write_columns
from explorer.core.provenance import ManifestError


def test_columns_are_read_as_they_were_written(tmp_path):
    columns = {
        "layout": np.arange(6, dtype=np.float32).reshape(3, 2),
        "kind": np.array([0, 1, 2], np.uint8),
        "neighbours": np.array([[-7], [1], [2]], np.int32),
        **text_columns("caption", ["", "grüß <b>", "日本"]),
    }
    header = write_columns(tmp_path / "columns.bin", columns)
    assert all(column["offset"] % 8 == 0 for column in header.values()), "as typed arrays need it"
    read = Columns(tmp_path / "columns.bin", header)
    for name, values in columns.items():
        np.testing.assert_array_equal(read[name], values)
    assert read.texts("caption") == ["", "grüß <b>", "日本"]
    raw = (tmp_path / "columns.bin").read_bytes()[header["neighbours"]["offset"] :]
    assert raw[:4] == b"\xf9\xff\xff\xff", "little-endian"


def test_texts_whose_ends_would_wrap_are_refused(monkeypatch):
    monkeypatch.setattr("explorer.alignment.graph_columns.LARGEST_TEXTS", 5)
    assert text_columns("caption", ["abc", "de"])["caption_ends"].tolist() == [3, 5]
    with pytest.raises(ValueError, match="caption of 2 pairs takes 6 bytes: expected at most 5"):
        text_columns("caption", ["abc", "def"])


def test_a_header_that_does_not_fit_is_refused(tmp_path):
    header = write_columns(tmp_path / "columns.bin", {"kind": np.zeros(3, np.uint8)})
    with pytest.raises(ManifestError, match="has no whole column kind: it ends after 8 bytes"):
        Columns(tmp_path / "columns.bin", {"kind": {**header["kind"], "shape": [9]}})
    with pytest.raises(ManifestError, match="there is no column layout: expected one of kind"):
        Columns(tmp_path / "columns.bin", header)["layout"]


def test_a_column_that_a_browser_has_no_array_for_is_refused(tmp_path):
    with pytest.raises(ValueError, match="column wide is of float64: expected one of float32"):
        write_columns(tmp_path / "columns.bin", {"wide": np.zeros(3)})
    assert list(tmp_path.iterdir()) == []
