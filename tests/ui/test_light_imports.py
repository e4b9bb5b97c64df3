"""The page must be up before anything heavy is imported."""

import json
import os
import subprocess
import sys

from explorer.core.provenance import ROOT

HEAVY = ("torch", "diffusers", "transformers", "open_clip", "umap", "sklearn", "scipy", "plotly", "numba")
BUILD = """
import json, sys
import gradio
before = set(sys.modules)
from explorer.ui.shell.application import make_application_server
from explorer.ui.shell.context import AppSettings
from pathlib import Path
make_application_server(AppSettings(checkpoints=Path(sys.argv[1])))
make_application_server(AppSettings())
print(json.dumps(sorted({name.split(".")[0] for name in set(sys.modules) - before})))
"""


def test_building_the_page_imports_nothing_heavy(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    imported = json.loads(done.stdout.splitlines()[-1])
    assert "explorer" in imported
    assert not set(imported) & {*HEAVY, "pandas"}, "pandas comes with gradio; ours must not add to what it imports"
