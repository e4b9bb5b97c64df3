import json
import re

import pytest
import torch
from safetensors.torch import save_file

from explorer.checkpoints.weight_files import WeightError, read_header, read_json, read_weights

TENSORS = {"a": torch.zeros(2, 3), "b": torch.zeros(5, dtype=torch.float16)}


@pytest.fixture
def unet(tmp_path):
    folder = tmp_path / "unet"
    folder.mkdir()
    save_file(TENSORS, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    return folder


def weight_path(folder):
    return folder / "diffusion_pytorch_model.safetensors"


def test_shapes_parameters_and_size(unet):
    header = read_weights(unet)
    assert header.shapes == {"a": (2, 3), "b": (5,)}
    assert header.parameters == 11
    assert header.size_bytes == weight_path(unet).stat().st_size


def test_shards_are_joined_and_a_missing_one_is_named(tmp_path):
    folder = tmp_path / "unet"
    folder.mkdir()
    for name, tensor in TENSORS.items():
        save_file({name: tensor}, folder / f"part-{name}.safetensors")
    index = {"weight_map": {name: f"part-{name}.safetensors" for name in TENSORS}}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    assert read_weights(folder).shapes == {"a": (2, 3), "b": (5,)}
    (folder / "part-b.safetensors").unlink()
    with pytest.raises(WeightError, match=r"unet/part-b\.safetensors is missing"):
        read_weights(folder)


SINGLE, INDEX = "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors.index.json"
HALF, OLDER = "diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.safetensors.fp16.index.json"


@pytest.mark.parametrize(
    ("single", "other"),
    [
        (SINGLE, INDEX),
        (SINGLE, "model.safetensors"),
        ("model.safetensors", "model.safetensors.index.json"),
        (HALF, "diffusion_pytorch_model.safetensors.index.fp16.json"),
        (HALF, OLDER),
    ],
)
def test_weights_of_which_another_set_might_be_loaded_are_refused(tmp_path, single, other):
    save_file(TENSORS, tmp_path / single)
    assert read_weights(tmp_path).shapes == {"a": (2, 3), "b": (5,)}
    save_file(TENSORS, tmp_path / "shard.safetensors")
    if other.endswith(".json"):
        (tmp_path / other).write_text(json.dumps({"weight_map": dict.fromkeys(TENSORS, "shard.safetensors")}))
    else:
        save_file(TENSORS, tmp_path / other)
    message = f"{tmp_path.name}/ holds both {single} and {other}: expected one of them"
    with pytest.raises(WeightError, match=re.escape(message)):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    ("config", "read"),
    [({"_class_name": "UNet2DConditionModel"}, SINGLE), ({"model_type": "clip"}, "model.safetensors")],
)
def test_files_under_another_library_s_name_do_not_count(tmp_path, config, read):
    for name in (SINGLE, "model.safetensors"):
        save_file(TENSORS, tmp_path / name)
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_weights(tmp_path).files == (tmp_path / read,)


def test_a_variant_beside_the_plain_files_is_no_second_set(unet):
    save_file(TENSORS, unet / HALF)
    (unet / "diffusion_pytorch_model.safetensors.index.fp16.json").write_text("{}")
    assert read_weights(unet).files == (weight_path(unet),)


@pytest.mark.parametrize(
    "changes",
    [{"data_offsets": [0, "24"]}, {"data_offsets": [0, 24.0]}, {"shape": ["6"]}, {"shape": "6"}, {"shape": 6}],
)
def test_a_header_of_no_whole_numbers_is_refused(tmp_path, changes):
    header = json.dumps({"a": {"dtype": "F32", "shape": [6], "data_offsets": [0, 24], **changes}}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 24)
    with pytest.raises(WeightError, match="is not a safetensors file: its header is not readable"):
        read_header(path)


@pytest.mark.parametrize("names", [None, [], {}, {"a": 1}, {"a": None, "b": "b.safetensors"}])
def test_an_index_without_names_of_shards_is_refused(tmp_path, names):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    with pytest.raises(WeightError, match=r"model\.safetensors\.index\.json lists no shards"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        (-1, "is truncated: it has"),
        (40, "is truncated: 40 bytes end inside its header"),
        (4, "is not a safet"),
    ],
)
def test_truncated_files(unet, cut, message):
    content = weight_path(unet).read_bytes()
    weight_path(unet).write_bytes(content[:cut])
    with pytest.raises(WeightError, match=message):
        read_header(weight_path(unet))


def test_bytes_too_many_and_other_formats(unet):
    content = weight_path(unet).read_bytes()
    weight_path(unet).write_bytes(content + b"0")
    with pytest.raises(WeightError, match="its header describes"):
        read_header(weight_path(unet))
    for other in (b"PK\x03\x04" + b"\xff" * 50, (3).to_bytes(8, "little") + b"[1]", b""):
        weight_path(unet).write_bytes(other)
        with pytest.raises(WeightError, match="is not a safetensors file"):
            read_header(weight_path(unet))


def test_pickles_and_missing_weights_are_named(unet):
    weight_path(unet).rename(unet / "diffusion_pytorch_model.bin")
    with pytest.raises(WeightError, match=r"diffusion_pytorch_model\.bin is a pickle, which can run any code"):
        read_weights(unet)
    (unet / "diffusion_pytorch_model.bin").unlink()
    with pytest.raises(WeightError, match=r"unet/ holds no \.safetensors weights"):
        read_weights(unet)
    with pytest.raises(WeightError, match="the folder vae/ is missing"):
        read_weights(unet.parent / "vae")


def test_json_that_is_no_object_is_named(tmp_path):
    path = tmp_path / "config.json"
    with pytest.raises(WeightError, match=r"config\.json is missing"):
        read_json(path)
    for content, message in (("{", "not readable JSON"), ("[]", "holds no JSON object")):
        path.write_text(content)
        with pytest.raises(WeightError, match=message):
            read_json(path)
