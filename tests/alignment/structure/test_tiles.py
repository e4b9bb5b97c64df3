"""The tile kernels against a slow obvious fp64 sum: random and adversarial rows, any tile, any worker count."""

import os
import subprocess
import sys

import pytest
import torch

from explorer.alignment.structure.tiles import (
    FixedPointSums,
    TorchTiles,
    choose_block,
    choose_kernel,
    structure_and_centred_row_sums,
    structure_row_sums,
    upper_tiles,
)
from explorer.core.provenance import ROOT
from explorer.core.share import Share

TOLERANCE = {"fp64": 1e-12, "fp32": 2e-6, "fp16": 4e-4}


def unit(rows):
    return rows / rows.norm(dim=1, keepdim=True)


def random_rows(n, d, seed):
    return unit(torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.3)


def adversarial_rows(n, d, seed):
    """Duplicates, antipodes, axes and rows one rounding error apart, in an order that mixes them over tiles."""
    base = random_rows(n, d, seed)
    base[n // 4 : n // 2] = base[0]
    base[n // 2 : n // 2 + n // 8] = -base[: n // 8]
    base[n - n // 8 :] = torch.eye(d, dtype=torch.float64)[torch.arange(n // 8) % d]
    base[n // 4] = unit(base[:1] + 1e-9)[0]
    return base[torch.randperm(n, generator=torch.Generator().manual_seed(seed + 1))]


def reference(image, text):
    """Mean structure distance of each sample, and that of the doubly centred kernels, every pair at once in fp64."""
    kernel = image.double() @ image.double().T - text.double() @ text.double().T
    kernel.fill_diagonal_(0)
    centring = torch.eye(len(image), dtype=torch.float64) - 1 / len(image)
    return kernel.abs().mean(1), (centring @ kernel @ centring).abs().mean(1)


@pytest.mark.parametrize("precision", ["fp64", "fp32", "fp16"])
@pytest.mark.parametrize("rows", [random_rows, adversarial_rows])
@pytest.mark.parametrize("block", [None, 1, 37, 100, 1000])
def test_row_sums_equal_the_obvious_sum(precision, rows, block):
    image, text = rows(100, 24, 0), rows(100, 16, 1)
    expected, centred = reference(image, text)
    both = structure_and_centred_row_sums(image, text, precision=precision, block=block)
    alone = structure_row_sums(image, text, precision=precision, block=block)
    assert torch.equal(alone, both[0])
    torch.testing.assert_close(both[0] / 100, expected, atol=TOLERANCE[precision], rtol=0)
    torch.testing.assert_close(both[1] / 100, centred, atol=TOLERANCE[precision], rtol=0)


def test_one_sample_and_identical_samples_have_no_disparity():
    row = random_rows(1, 8, 0)
    assert structure_row_sums(row, -row).tolist() == [0.0]
    assert structure_row_sums(row.expand(50, 8), -row.expand(50, 8), block=7).abs().max() < 1e-12


def test_antipodal_spaces_have_the_largest_disparity():
    image = torch.cat([random_rows(1, 6, 0)] * 10)
    text = image * torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(5)[:, None]
    assert (structure_row_sums(image, text, block=4) / 10).tolist() == pytest.approx([1.0] * 10), "five times 2 of ten"


def adding_up():
    """What the workers of one run share: each gets the sum of all that came so far, so the last gets the total."""
    so_far = []
    return lambda units: so_far.append(units.clone()) or sum(so_far)


def test_workers_together_give_the_same_bits():
    image, text = random_rows(210, 12, 0).float(), random_rows(210, 12, 1).float()
    alone = structure_row_sums(image, text, block=32)
    for count in (2, 3, 40):
        add_up = adding_up()
        for index in range(count):
            together = structure_row_sums(image, text, block=32, share=Share(index=index, count=count, add_up=add_up))
        assert torch.equal(together, alone)


def test_shares_are_even_and_complete():
    tasks = upper_tiles(1000, 64)
    assert len(tasks) == 16 * 17 // 2
    for count in (1, 2, 3, 7, 200):
        parts = [Share(index=index, count=count).part(tasks) for index in range(count)]
        assert [task for part in parts for task in part] == tasks
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_fixed_point_is_exact_in_any_order():
    terms = torch.rand(1000, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sums = [FixedPointSums(5, 1000.0, torch.device("cpu")) for _ in range(2)]
    for total, order in zip(sums, (range(1000), reversed(range(1000))), strict=True):
        for row in order:
            total.add(slice(0, 5), terms[row])
    assert torch.equal(sums[0].value(), sums[1].value())
    torch.testing.assert_close(sums[0].value(), terms.sum(0), atol=1e-12, rtol=0)


def test_buffers_are_tiles_not_the_whole_matrix():
    tiles = TorchTiles(random_rows(500, 8, 0), random_rows(500, 8, 1), precision="fp32", block=20)
    held = tiles.buffers.numel() + tiles.left.numel()
    assert held == 20 * 20 + 20 * 16
    assert tiles.right is None, "fp32 columns are multiplied where they lie"


def test_reduced_precision_of_the_process_is_not_ours():
    image, text = random_rows(80, 16, 0).float(), random_rows(80, 16, 1).float()
    expected = structure_row_sums(image, text)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(structure_row_sums(image, text), expected)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_what_cannot_be_is_refused():
    image, text = random_rows(10, 4, 0), random_rows(10, 4, 1)
    broken = text.clone()
    broken[3, 0], broken[7, 1] = float("nan"), float("inf")
    for arguments, message in (
        ({"text": broken}, "text has NaN or infinite values in rows 3, 7"),
        ({"text": text[:9]}, "image has 10 rows and text 9"),
        ({"precision": "bf16"}, "precision is 'bf16': expected one of fp16, fp32, fp64"),
        ({"kernel": "cuda"}, "kernel is 'cuda': expected one of auto, torch, triton"),
        ({"kernel": "triton", "precision": "fp64"}, "kernel is 'triton' at precision fp64"),
        ({"block": 0}, "block is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            structure_row_sums(**{"image": image, "text": text, **arguments})
    with pytest.raises(ValueError, match="device is 'meta': expected cpu or cuda"):
        choose_kernel(torch.device("meta"), "fp32")


def test_choices_on_a_cpu():
    cpu = torch.device("cpu")
    assert (choose_kernel(cpu, "fp16"), choose_block(cpu, 10), choose_block(cpu, 10**6)) == ("torch", 10, 1024)


TRITON_CHECK = """
import importlib.util, sys
import torch
specification = importlib.util.spec_from_file_location("kernel_tests", sys.argv[1])
kernel_tests = importlib.util.module_from_spec(specification)
specification.loader.exec_module(kernel_tests)
adversarial_rows, random_rows, reference = (
    getattr(kernel_tests, name) for name in ("adversarial_rows", "random_rows", "reference"))
from explorer.alignment.structure.tiles import structure_row_sums
from explorer.alignment.structure import tiles as structure_kernels
from explorer.alignment.structure import triton_kernel as structure_triton
tiles = structure_triton.TritonTiles
def use(rows, columns):
    config = structure_triton.KernelConfig(rows=rows, columns=columns, inner=16, warps=4, stages=2, group=2)
    structure_kernels.tiles_class = lambda kernel: lambda *rows, **options: tiles(*rows, **options, config=config)
def check(rows, n, block, precision, tolerance):
    image, text = rows(n, 24, 0), rows(n, 20, 1)
    plain, centred = reference(image, text)
    found = structure_kernels.structure_and_centred_row_sums(
        image, text, precision=precision, kernel="triton", block=block)
    assert torch.equal(structure_row_sums(image, text, precision=precision, kernel="triton", block=block), found[0])
    torch.testing.assert_close(found[0] / n, plain, atol=tolerance, rtol=0)
    torch.testing.assert_close(found[1] / n, centred, atol=tolerance, rtol=0)
# 37 is no multiple of a tile, so that a tile's last columns are the next block's samples; 5 is less than a tile.
for sides in ((16, 32), (32, 16)):
    use(*sides)
    check(random_rows, 90, 37, "fp32", 2e-6)
    check(adversarial_rows, 90, 48, "fp16", 4e-4)
    check(random_rows, 5, None, "fp16", 4e-4)
one = random_rows(1, 8, 0)
assert structure_row_sums(one, -one, kernel="triton", precision="fp32").tolist() == [0.0]
print("agrees")
"""


def test_triton_kernel_agrees_in_the_interpreter():
    """No GPU is needed: Triton's interpreter runs the kernel on the CPU. What a GPU makes of it is not tested here."""
    pytest.importorskip("triton", reason="Triton is not installed")
    done = subprocess.run(
        [sys.executable, "-c", TRITON_CHECK, __file__],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "agrees"
