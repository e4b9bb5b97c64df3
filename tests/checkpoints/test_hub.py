import json
import os
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from explorer.checkpoints.hub import HubError, HubId, fetch_pipeline, parse_hub_id, wanted_files
from explorer.checkpoints.pipelines import load_pipeline
from explorer.checkpoints.registry import scan_checkpoints, validate
from explorer.core.provenance import ROOT, hash_file

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubHandler(SimpleHTTPRequestHandler):
    """The two routes of a hub that a download needs, over the files of a folder: a listing, and files of a commit."""

    def send_head(self):
        route = self.path.partition("?")[0]
        if route == "/api/models/owner/tiny/revision/main":
            self.send_listing()
        elif route.startswith(f"/owner/tiny/resolve/{COMMIT}/"):
            self.path = route.removeprefix(f"/owner/tiny/resolve/{COMMIT}")
            return super().send_head()
        else:
            self.send_error(404)
        return None

    def send_listing(self):
        names = [path.relative_to(self.directory).as_posix() for path in self.files()]
        content = json.dumps({"id": "owner/tiny", "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]})
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content.encode())

    def files(self):
        from pathlib import Path

        return sorted(path for path in Path(self.directory).rglob("*") if path.is_file())

    def end_headers(self):
        self.send_header("ETag", f'"{abs(hash(self.path)):x}"')
        self.send_header("X-Repo-Commit", COMMIT)
        super().end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def hub(checkpoint_root):
    """Address of a hub on this machine that holds the fixture's benign pipeline as ``owner/tiny``."""
    folder = checkpoint_root / "benign"
    (folder / "manifest.json").unlink()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(HubHandler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", folder
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_pipeline_is_fetched_whole_with_its_commit_and_hashes(hub, tmp_path):
    endpoint, origin = hub
    (origin / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80")
    (origin / "unet" / "evil.py").write_text("raise SystemExit")
    (origin / "vae_decoder").mkdir()
    (origin / "vae_decoder" / "openvino_model.bin").write_bytes(b"\x80")
    found = fetch_pipeline("owner/tiny", tmp_path / "models", endpoint=endpoint)
    assert (found.kind, found.name, found.problem) == ("hub", "owner--tiny", None)
    assert found.manifest["config"]["hub"] == {"repository": "owner/tiny", "revision": "main", "commit": COMMIT}
    assert validate(found, thorough=True).problem is None
    files = {path.relative_to(found.folder).as_posix() for path in found.folder.rglob("*") if path.is_file()}
    assert not [name for name in files if name.endswith((".bin", ".py")) or name.startswith(".cache")]
    for name in files - {"manifest.json"}:
        assert hash_file(found.folder / name) == hash_file(origin / name)
    assert [checkpoint.name for checkpoint in scan_checkpoints(tmp_path / "models")] == ["owner--tiny"]
    with pytest.raises(HubError, match="was fetched already"):
        fetch_pipeline("owner/tiny", tmp_path / "models", endpoint=endpoint)


def test_what_the_hub_lacks_is_named_and_nothing_is_left(hub, tmp_path):
    endpoint, origin = hub
    with pytest.raises(HubError, match="owner/other cannot be fetched: "):
        fetch_pipeline("owner/other", tmp_path / "models", endpoint=endpoint)
    index = json.loads((origin / "model_index.json").read_text())
    (origin / "model_index.json").write_text(json.dumps(index | {"_class_name": "PixArtAlphaPipeline"}))
    with pytest.raises(HubError, match="owner/tiny is a PixArtAlphaPipeline: expected one of StableDiffusionPipeline"):
        fetch_pipeline("owner/tiny", tmp_path / "models", endpoint=endpoint)
    (origin / "model_index.json").unlink()
    with pytest.raises(HubError, match=r"owner/tiny has no model_index\.json: expected a diffusers pipeline folder"):
        fetch_pipeline("owner/tiny", tmp_path / "models", endpoint=endpoint)
    assert list((tmp_path / "models").iterdir()) == []


def test_an_unreachable_hub_is_one_sentence(tmp_path):
    with pytest.raises(HubError, match="owner/tiny cannot be fetched: the hub cannot be reached from this machine"):
        fetch_pipeline("owner/tiny", tmp_path, endpoint="http://127.0.0.1:9")
    program = (
        "import sys; from explorer.checkpoints.hub import fetch_pipeline, HubError\n"
        "try: fetch_pipeline('owner/tiny', sys.argv[1])\n"
        "except HubError as error: print(error)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert "offline mode is switched on (HF_HUB_OFFLINE)" in done.stdout, done.stderr


def test_scanning_and_loading_look_nothing_up(checkpoint_root, no_network):
    found = scan_checkpoints(checkpoint_root)
    assert [validate(checkpoint, thorough=True).problem for checkpoint in found] == [None] * 3
    shared = {}
    for checkpoint in found:
        load_pipeline(checkpoint, shared=shared)


@pytest.mark.parametrize("text", ["", "tiny", "a/b/c", "../b", "a/..", "https://hub/a/b", "a/b@", "a b/c", "/a/b"])
def test_only_plain_hub_ids_are_taken(text, tmp_path, no_network):
    with pytest.raises(HubError, match="expected owner/name or owner/name@revision"):
        fetch_pipeline(text, tmp_path)


def test_hub_ids():
    assert parse_hub_id(" owner/name ") == HubId(repository="owner/name")
    assert parse_hub_id("o/n.1@refs/pr/2") == HubId(repository="o/n.1", revision="refs/pr/2")
    assert parse_hub_id("o/n@v1").folder_name == "o--n@v1"


def index_of(*components):
    """A model_index.json that names ``components``."""
    return {"_class_name": "Pipeline", **{name: ["library", "Class"] for name in components}}


def test_one_set_of_safetensors_a_component():
    both = ["diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"]
    unet = [f"unet/{name}" for name in ("config.json", *both, "diffusion_pytorch_model.non_ema.safetensors")]
    text = ["text_encoder/config.json", "text_encoder/model.fp16.safetensors", "tokenizer/merges.txt"]
    names = [
        "model_index.json",
        "v1-5-pruned.safetensors",
        "README.md",
        "safety_checker/model.safetensors",
        *unet,
        *text,
    ]
    index = index_of("unet", "text_encoder", "tokenizer", "safety_checker", "vae")
    assert wanted_files(names, index) == sorted(["unet/config.json", f"unet/{both[0]}", *text])
    assert f"unet/{both[1]}" in wanted_files(names, index, half=True)
    assert f"unet/{both[0]}" not in wanted_files(names, index, half=True)
    with pytest.raises(HubError, match="vae comes as a pickle only"):
        wanted_files([*names, "vae/config.json", "vae/diffusion_pytorch_model.bin"], index)


def test_of_a_single_file_and_shards_the_single_file_is_fetched():
    stem, index = "unet/diffusion_pytorch_model", {"unet": ["diffusers", "UNet2DConditionModel"]}
    shards = [f"{stem}-0000{part}-of-00002.safetensors" for part in (1, 2)] + [f"{stem}.safetensors.index.json"]
    assert wanted_files(["unet/config.json", *shards], index) == sorted(["unet/config.json", *shards])
    single = f"{stem}.safetensors"
    assert wanted_files(["unet/config.json", *shards, single], index) == ["unet/config.json", single]


def test_folders_that_the_index_does_not_name_are_left_out():
    """The list is that of SDXL base 1.0, shortened; two of its folders hold OpenVINO's .bin and no safetensors."""
    wanted = [
        "scheduler/scheduler_config.json", "text_encoder/config.json", "text_encoder/model.safetensors",
        "text_encoder_2/config.json", "text_encoder_2/model.safetensors", "tokenizer/merges.txt",
        "tokenizer/vocab.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json", "vae/diffusion_pytorch_model.safetensors",
    ]  # fmt: skip
    rest = [
        "model_index.json", "README.md", "sd_xl_base_1.0.safetensors", "text_encoder/openvino_model.bin",
        "text_encoder_2/model.onnx", "unet/openvino_model.bin", "unet/openvino_model.xml",
        "unet/diffusion_pytorch_model.fp16.safetensors", "vae_1_0/config.json",
        "vae_1_0/diffusion_pytorch_model.safetensors", "vae_decoder/config.json", "vae_decoder/openvino_model.bin",
        "vae_encoder/config.json", "vae_encoder/openvino_model.bin", "image_encoder/model.safetensors",
    ]  # fmt: skip
    index = index_of("scheduler", "text_encoder", "text_encoder_2", "tokenizer", "unet", "vae")
    index |= {"image_encoder": [None, None], "force_zeros_for_empty_prompt": True, "_diffusers_version": "0.19.0"}
    assert wanted_files([*rest, *wanted], index) == wanted
