"""A full disk: said in words, and what is left behind neither looks finished nor stands in the way."""

import io
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image
from safetensors import SafetensorError

from explorer.core.provenance import ROOT, is_disk_full


def in_a_small_file_system(folder, script):
    """Run a shell script where a file system of 300 KB is mounted at ``folder``."""
    mounted = f"mount -t tmpfs -o size=300k tmpfs {folder} && {script}"
    return subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", mounted], cwd=ROOT, capture_output=True, text=True
    )


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    if shutil.which("unshare") is None or in_a_small_file_system(folder, "true").returncode:
        pytest.skip("no file system can be mounted here (unshare, mount)")
    return folder


def test_an_import_onto_a_full_disk(disk, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), np.uint8)
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for row, image in enumerate(pixels):
            stream = io.BytesIO()
            Image.fromarray(image).save(stream, "PNG")
            for suffix, data in (("png", stream.getvalue()), ("txt", b"a dog")):
                member = tarfile.TarInfo(f"{row}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    run = f"{sys.executable} -m explorer import {tmp_path}/0.tar {disk}/set --size 64"
    script = f"{run}; echo rc $?; find {disk}; mount -o remount,size=4m {disk} && {run} --json"
    found = in_a_small_file_system(disk, script)
    first, *left = found.stdout.split("\n{")[0].splitlines()
    assert (first, left) == ("rc 2", [str(disk)]), found
    assert "error: the disk is full: free some space and run the same again" in found.stderr
    assert "Traceback" not in found.stderr
    assert '"pairs": 40' in found.stdout, "and then it goes through"


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        OSError(122, "Disk quota exceeded"),
        OSError("9000 requested and 1200 written"),  # numpy
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_every_librarys_words_for_it_are_known(error):
    assert is_disk_full(error)
    assert not is_disk_full(OSError(2, "No such file or directory"))
