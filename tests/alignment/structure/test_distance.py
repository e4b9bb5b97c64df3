"""What the rows of a set say of all its pairs, against all its pairs; what is no unit row is refused."""

import pytest
import torch

from explorer.alignment.structure.distance import check_unit_rows, feature_statistics


def unit_rows(n, d, seed, dtype=torch.float64):
    rows = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.3
    return (rows / rows.norm(dim=1, keepdim=True)).to(dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-6), (torch.float16, 1e-6)])
def test_statistics_are_those_of_all_pairs(dtype, tolerance):
    image, text = unit_rows(90, 12, 0, dtype), unit_rows(90, 7, 1, dtype)
    found = feature_statistics(image, text)
    x, y = image.double(), text.double()
    disparity = x @ x.T - y @ y.T
    torch.testing.assert_close(found.offsets, disparity.mean(1), atol=tolerance, rtol=0)
    torch.testing.assert_close(found.image_mean, x.mean(0), atol=1e-13, rtol=0)
    torch.testing.assert_close(found.text_mean, y.mean(0), atol=1e-13, rtol=0)
    assert found.mean == pytest.approx(disparity.mean().item(), abs=1e-13)
    assert disparity.abs().max() <= found.largest_disparity < 2.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:8], "image has 10 rows and text 8: expected the same number"),
        (lambda rows: torch.cat([rows[:9], 1.1 * rows[9:]]), r"text is not L2-normalised in row 9 \(a norm of 1.1\): "),
        (lambda rows: rows.index_fill(0, torch.tensor([4]), float("nan")), "text has NaN or infinite values in row 4"),
        (lambda rows: rows[:, 0], r"text has shape \[10\]: expected \[N, d\]"),
        (lambda rows: rows.long(), "text has dtype torch.int64: expected floating-point features"),
    ],
)
def test_what_is_no_unit_row_is_named(change, message):
    image, text = unit_rows(10, 4, 0), change(unit_rows(10, 4, 1))
    with pytest.raises(ValueError, match=message):
        feature_statistics(image, text)
    if len(text) == 10:
        with pytest.raises(ValueError, match=message):
            check_unit_rows("text", text)
