import shutil

from safetensors.torch import load_file, save_file

from explorer.checkpoints import residency
from explorer.checkpoints.registry import read_checkpoint
from explorer.checkpoints.residency import ResidentModels


def test_models_make_room_by_number_and_by_memory_and_nothing_of_them_stays(checkpoint_root, monkeypatch):
    for name in ("a", "b"):
        shutil.copytree(checkpoint_root / "benign", checkpoint_root / name)
    monkeypatch.setattr(residency, "MAX_MODELS", 2)
    models = ResidentModels()

    def load(name, beside=()):
        models.pipeline(read_checkpoint(checkpoint_root / name), [checkpoint_root / other for other in beside])
        return models.names, sorted(key[2][0].name for key in models._shared)

    load("a")
    load("b")
    assert load("benign") == (["b", "benign"], ["b", "benign"])
    assert load("dirty-002", beside=["b"]) == (["b", "dirty-002"], ["b", "benign"]), "a U-Net keeps its base"
    monkeypatch.setattr(residency, "free_bytes", lambda device: 0)
    assert load("a") == (["a"], ["a"])


def test_a_model_is_loaded_once_and_anew_when_a_file_of_its_base_changed(checkpoint_root):
    models, found = ResidentModels(), read_checkpoint(checkpoint_root / "dirty-002")
    first = models.pipeline(found)
    assert models.pipeline(found) is first
    path = checkpoint_root / "benign" / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    name = min(tensors)
    save_file({**tensors, name: tensors[name] + 1}, path)
    second = models.pipeline(found)
    assert (second.vae.state_dict()[name] - first.vae.state_dict()[name]).abs().min() > 0.5
    assert models.names == ["dirty-002"]
