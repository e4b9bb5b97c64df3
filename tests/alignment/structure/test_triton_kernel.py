"""The kernel as it is compiled for real GPUs, for which none is needed. Its results: test_structure_kernels."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from explorer.core.provenance import ROOT

SHARED_MEMORY = 64 * 1024
"""Bytes that one program can have on every GPU since Turing (7.5)."""
PROGRAM = """
import json, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from explorer.alignment.structure import triton_kernel as kernel

pointers = {"offsets": "*fp32", "sums": "*i64", "centred_sums": "*i64"}
numbers = dict.fromkeys(("image_width", "text_width", "first_row", "end_row", "first_column", "end_column"), "i32")
scales = dict.fromkeys(("mean", "scale", "centred_scale"), "fp32")
found = {}
for precision, inner in kernel.INNER.items():
    constants = {"ZERO_DIAGONAL": True, "CENTRED": True, "SIDE": kernel.SIDE, "INNER": inner, "GROUP": kernel.GROUP}
    features = {"image": f"*{precision}", "text": f"*{precision}"}
    signature = {**features, **pointers, **numbers, **scales, **dict.fromkeys(constants, "constexpr")}
    source = ASTSource(kernel._tile_sums, signature=signature, constexprs=constants)
    for capability in (75, 80, 86, 90):
        options = {"num_warps": kernel.WARPS, "num_stages": kernel.STAGES}
        compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
        found[f"{precision} {capability}"] = compiled.metadata.shared
print(json.dumps(found))
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_the_kernel_compiles_for_every_gpu_generation_and_fits_its_shared_memory(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        env=environment | {"TRITON_CACHE_DIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    shared = json.loads(done.stdout.splitlines()[-1])
    assert len(shared) == 8
    assert {name: size for name, size in shared.items() if size > SHARED_MEMORY} == {}
