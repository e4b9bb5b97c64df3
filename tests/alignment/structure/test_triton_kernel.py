"""The kernel as it is compiled for real GPUs, for which none is needed. Its results: test_tiles, test_cuda_kernels."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from explorer.core.provenance import ROOT

SHARED_MEMORY = {75: 64, 80: 163, 86: 99, 90: 227}
"""Compute capability, times ten -> KiB that one program can have."""
PROGRAM = """
import json, sys, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from explorer.alignment.structure import triton_kernel as kernel

pointers = {"offsets": "*fp32", "sums": "*i64", "centred_sums": "*i64"}
numbers = dict.fromkeys(("width", "first_row", "end_row", "first_column", "end_column"), "i32")
scales = dict.fromkeys(("mean", "scale", "centred_scale"), "fp32")
aligned = ("left", "right", "width")
found = []
for precision, configs in kernel.CONFIGS.items():
    for capability, size in json.loads(sys.argv[1]).items():
        config = next(config for least, config in configs if least <= size)
        constants = {"EDGES": True, "CENTRED": True, "ROWS": config.rows, "COLUMNS": config.columns,
            "INNER": config.inner, "GROUP": config.group, "DIAGONAL": True}
        features = {"left": f"*{precision}", "right": f"*{precision}"}
        signature = {**features, **pointers, **numbers, **scales, **dict.fromkeys(constants, "constexpr")}
        function = kernel._tile_sums
        # As a launch has it: addresses and widths are multiples of 16.
        attributes = {
            (function.arg_names.index(name),): [["tt.divisibility", 16]]
            for name in aligned}
        source = ASTSource(function, signature=signature, constexprs=constants, attrs=attributes)
        options = {"num_warps": config.warps, "num_stages": config.stages}
        compiled = triton.compile(source, target=GPUTarget("cuda", int(capability), 32), options=options)
        found.append((precision, int(capability), compiled.metadata.shared, "wgmma" in compiled.asm["ptx"]))
print(json.dumps(found))
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.slow
def test_the_kernel_compiles_for_every_gpu_generation_and_fits_its_shared_memory(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(SHARED_MEMORY)], cwd=ROOT, capture_output=True, text=True,
        timeout=300, check=False, env=environment | {"TRITON_CACHE_DIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == 8
    for precision, capability, shared, on_hopper_cores in found:
        assert shared <= SHARED_MEMORY[capability] * 1024, (precision, capability)
        assert on_hopper_cores == (precision == "fp16" and capability == 90)
