"""Structure row sums on a GPU, by both kernels, against every pair at once in fp64 on the CPU."""

import pytest
import torch

from explorer.alignment.structure.tiles import structure_and_centred_row_sums, structure_row_sums

TOLERANCE = {"fp64": 1e-12, "fp32": 2e-6, "fp16": 4e-4}
"""Of a mean disparity: what rounding the operands explains."""
KERNELS = [("triton", "fp32"), ("triton", "fp16"), ("torch", "fp32"), ("torch", "fp16"), ("torch", "fp64")]
SIZES = [  # N, image width, text width, block
    (1, 1, 1, None),
    (1, 512, 768, None),
    (2, 3, 16, None),
    (3, 16, 63, 1),
    (63, 1, 63, None),
    (64, 16, 3, None),
    (65, 65, 512, None),
    (127, 63, 65, 37),
    (129, 512, 512, None),
    (129, 768, 1, 128),
    (1000, 1000, 768, None),
    (1000, 3, 1000, 300),
    (4097, 1, 1, None),
    (4097, 65, 63, None),
    (4097, 768, 512, 1024),
]


def unit_rows(n, d, seed):
    """fp64 `[n, d]`; the shift puts them in a cone, as CLIP's are."""
    rows = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.3
    return torch.nn.functional.normalize(rows)


def reference(image, text):
    """Mean structure distance of each row, and that of mean-free features, fp64 `[n]` each."""
    kernel = image @ image.T - text @ text.T
    kernel.fill_diagonal_(0)
    plain = kernel.abs().mean(1)
    kernel -= kernel.mean(0)
    kernel -= kernel.mean(1, keepdim=True)
    return plain, kernel.abs_().mean(1)


def largest_difference(found, expected):
    return (found - expected).abs().max().item()


@pytest.mark.cuda
@pytest.mark.parametrize(("kernel", "precision"), KERNELS)
@pytest.mark.parametrize(("n", "image_width", "text_width", "block"), SIZES)
def test_row_sums_equal_those_of_every_pair_in_fp64(n, image_width, text_width, block, kernel, precision):
    image, text = unit_rows(n, image_width, 0), unit_rows(n, text_width, 1)
    expected = reference(image, text)
    options = {"precision": precision, "kernel": kernel, "block": block}
    on_gpu = image.to("cuda"), text.to("cuda")
    both = structure_and_centred_row_sums(*on_gpu, **options)
    assert torch.equal(structure_row_sums(*on_gpu, **options), both[0]), "centring changes no bit of the plain sums"
    for name, found, wanted in zip(("plain", "centred"), both, expected, strict=True):
        off = largest_difference(found / n, wanted)
        assert off <= TOLERANCE[precision], f"{name} sums are off by {off:.3g}, allowed {TOLERANCE[precision]:.3g}"


@pytest.mark.cuda
@pytest.mark.parametrize(("kernel", "precision"), KERNELS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_rows_as_stores_keep_them(kernel, precision, dtype):
    image, text = (unit_rows(300, width, seed).to(dtype) for seed, width in enumerate((96, 80)))
    products = (image.double() @ image.double().T - text.double() @ text.double().T).fill_diagonal_(0)
    found = structure_row_sums(image.to("cuda"), text.to("cuda"), precision=precision, kernel=kernel)
    off = largest_difference(found / 300, products.abs().mean(1))
    allowed = TOLERANCE["fp16" if precision == "fp16" else "fp32"]
    assert off <= allowed, f"off by {off:.3g}, allowed {allowed:.3g}"


@pytest.mark.cuda
@pytest.mark.parametrize("kernel", ["torch", "triton"])
def test_tf32_of_the_process_is_not_ours(kernel):
    """TF32 keeps 10 bits of a product's operands: it would show at 1e-4."""
    image, text = unit_rows(600, 256, 0).float(), unit_rows(600, 192, 1).float()
    expected, _ = reference(image.double(), text.double())
    image, text = image.to("cuda"), text.to("cuda")
    options = {"kernel": kernel, "block": 256}
    first = structure_row_sums(image, text, **options)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            second = structure_row_sums(image, text, **options)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    off = largest_difference(second / 600, expected)
    assert off <= TOLERANCE["fp32"], f"off by {off:.3g}"
    assert torch.equal(first, second), f"bits differ, by {largest_difference(first / 600, second / 600):.3g}"


@pytest.mark.cuda
@pytest.mark.parametrize("variant", ["large tiles", "small tiles"])
def test_every_way_to_divide_the_work_gives_the_same_sums(variant, monkeypatch):
    """Blocks of 300 end within tiles; 1000 rows and columns are several tiles of each shape."""
    from explorer.alignment.structure import tiles, triton_kernel

    config = {
        "large tiles": triton_kernel.KernelConfig(rows=64, columns=256, inner=32, warps=4, stages=2, group=2),
        "small tiles": triton_kernel.KernelConfig(rows=64, columns=32, inner=32, warps=4, stages=3),
    }[variant]
    kernel = triton_kernel.TritonTiles
    monkeypatch.setattr(
        tiles, "tiles_class", lambda name: lambda *rows, **options: kernel(*rows, **options, config=config)
    )
    image, text = unit_rows(1000, 96, 0), unit_rows(1000, 65, 1)
    options = {"precision": "fp16", "kernel": "triton", "block": 300}
    both = structure_and_centred_row_sums(image.to("cuda"), text.to("cuda"), **options)
    again = structure_and_centred_row_sums(image.to("cuda"), text.to("cuda"), **options)
    for found, repeated, wanted in zip(both, again, reference(image, text), strict=True):
        off = largest_difference(found / 1000, wanted)
        assert off <= TOLERANCE["fp16"], f"off by {off:.3g}"
        assert torch.equal(found, repeated), "no order of adding changes a bit"


@pytest.mark.cuda
def test_features_beyond_two_to_the_31_elements():
    """Rows behind element 2^31, where 32-bit offsets would wrap: 4.2 million fp16 rows of 512."""
    n, width = 2**22 + 300, 512
    if torch.cuda.mem_get_info()[0] < 16e9:
        pytest.skip(f"needs 16 GB of free GPU memory, has {torch.cuda.mem_get_info()[0] / 1e9:.1f}")
    from explorer.alignment.structure.tiles import FixedPointSums
    from explorer.alignment.structure.triton_kernel import TritonTiles

    last = unit_rows(300, width, 0).half()
    image = torch.zeros(n, width, dtype=torch.float16, device="cuda")
    image[-300:] = last.to("cuda")
    text = torch.zeros(n, 16, dtype=torch.float16, device="cuda")
    sums = FixedPointSums(n, 4.0 * n, image.device)
    rows = slice(n - 300, n)
    TritonTiles(image, text, precision="fp16", block=300).add(rows, rows, sums, None)
    found = sums.value()
    products = last.double() @ last.double().T
    off = largest_difference(found[-300:], products.fill_diagonal_(0).abs().sum(1))
    assert off <= 300 * TOLERANCE["fp16"], f"off by {off:.3g}"
    assert not found[:-300].any(), "sums of other rows were touched"
