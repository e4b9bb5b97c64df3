"""Aesthetics heads and classifiers from local weights: what they see, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from explorer.checkpoints.registry import scan_checkpoints
from explorer.core.poison_record import PoisonRecord
from explorer.embeddings.open_clip_extractor import load_open_clip
from explorer.evaluation.aesthetics import AestheticsHead
from explorer.evaluation.classifier import PictureClassifier
from explorer.evaluation.config import EvaluationConfig
from explorer.evaluation.evaluate import evaluate
from explorer.pairs.concept_list import Concept, ConceptList

PICTURES = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), np.uint8)
CONCEPTS = ConceptList(concepts=(Concept(name="dog"), Concept(name="hat"), Concept(name="turtle")), template="{phrase}")
MODEL, TAG = "resnet18", "IMAGENET1K_V1"


@pytest.fixture(scope="module")
def extractor(open_clip_folder):
    return load_open_clip(f"local-dir:{open_clip_folder}", open_clip_folder / "w.safetensors", None)


@pytest.fixture
def head(tmp_path):
    """Layers as the improved predictor names them: dropout takes the numbers between."""
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.Dropout(), torch.nn.Linear(8, 1))
    path = tmp_path / "head.safetensors"
    save_file({f"layers.{name}": tensor for name, tensor in layers.state_dict().items()}, path)
    return path, layers.eval()


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    from torchvision.models import get_model

    folder = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(0)
    model = get_model(MODEL, weights=None, num_classes=3)
    save_file(model.state_dict(), folder / "w.safetensors")
    (folder / "names.txt").write_text("Turtle, tortoise\nboat\ndog\n")
    return folder, model.eval()


def test_a_head_gives_the_scores_of_its_layers(head, extractor):
    path, layers = head
    found = AestheticsHead.load(path, extractor)
    with torch.no_grad():
        expected = layers(extractor.encode_images(PICTURES))[:, 0]
    assert torch.allclose(found.read(PICTURES)["aesthetic_scores"], expected, atol=1e-6)
    assert found.describe()["threshold"] == 6.5


def test_a_linear_head_is_one_layer(extractor, tmp_path):
    save_file({"weight": torch.ones(1, 16), "bias": torch.tensor([2.0])}, tmp_path / "h.safetensors")
    scores = AestheticsHead.load(tmp_path / "h.safetensors", extractor).read(PICTURES)["aesthetic_scores"]
    assert torch.allclose(scores, extractor.encode_images(PICTURES).sum(1) + 2, atol=1e-5)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"weight": torch.ones(1, 768), "bias": torch.ones(1)}, "features of 768 numbers, and those of m have 16"),
        ({"weight": torch.ones(2, 16), "bias": torch.ones(2)}, "the last of which gives one number"),
        ({"weight": torch.ones(1, 16)}, "expected weight and bias of one linear layer"),
        ({"layers.0.weight": torch.ones(8, 16), "layers.0.bias": torch.ones(8), "layers.2.weight": torch.ones(1, 9),
          "layers.2.bias": torch.ones(1)}, "of several in a row"),
    ],
)  # fmt: skip
def test_what_is_no_head_is_refused(tensors, message, extractor, tmp_path):
    save_file(tensors, tmp_path / "h.safetensors")
    with pytest.raises(ValueError, match=message):
        AestheticsHead.load(tmp_path / "h.safetensors", extractor)


def test_a_pickle_is_never_opened(extractor, tmp_path):
    path = tmp_path / "head.pth"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"convert it elsewhere with safetensors.torch.save_file\(torch.load"):
        AestheticsHead.load(path, extractor)
    with pytest.raises(FileNotFoundError, match=r"none.safetensors is no file"):
        AestheticsHead.load(tmp_path / "none.safetensors", extractor)


def test_a_classifier_sees_what_torchvision_sees(classifier):
    from torchvision.models import get_model_weights

    folder, model = classifier
    found = PictureClassifier.load(MODEL, folder / "w.safetensors", folder / "names.txt", CONCEPTS)
    prepare = get_model_weights(MODEL)[TAG].transforms()
    with torch.no_grad():
        expected = [int(model(prepare(torch.from_numpy(one).permute(2, 0, 1))[None]).argmax()) for one in PICTURES]
    seen = found.read(PICTURES)
    assert seen["classes"].tolist() == expected
    assert seen["class_matches"].tolist() == [[False, False, True], [False] * 3, [True, False, False]]
    assert (found.describe()["concepts_with_a_class"], found.describe()["preparation"]) == (2, TAG)


def test_what_is_no_classifier_is_refused(classifier, tmp_path):
    weights, names = classifier[0] / "w.safetensors", classifier[0] / "names.txt"
    (tmp_path / "boats.txt").write_text("boat\nship\nraft\n")
    (tmp_path / "two.txt").write_text("dog\nhat\n")
    for given, message in (
        (("resnet19", weights, names), "torchvision knows no model 'resnet19'"),
        (("resnet50", weights, names), "prepare pictures differently, .* one of IMAGENET1K_V1, IMAGENET1K_V2"),
        ((MODEL, weights, tmp_path / "boats.txt"), "names none of the 3 concepts"),
        ((MODEL, weights, tmp_path / "two.txt"), "does not fit resnet18 of 2 classes"),
    ):
        with pytest.raises(ValueError, match=message):
            PictureClassifier.load(*given, CONCEPTS)
    with pytest.raises(
        ValueError, match="preparation is 'V3': expected side-N, N in pixels, or one of resnet18's, IMAGENET1K_V1"
    ):
        PictureClassifier.load(MODEL, weights, names, CONCEPTS, preparation="V3")


def test_the_papers_metrics_of_a_users_models(head, classifier, extractor, checkpoint_template, tmp_path):
    folder, _ = classifier
    readers = (
        AestheticsHead.load(head[0], extractor, threshold=0.0),
        PictureClassifier.load(MODEL, folder / "w.safetensors", folder / "names.txt", CONCEPTS),
    )
    poison = PoisonRecord(kind="dirty-label", concepts=("dog", "hat"), targets={"dog": "turtle", "hat": "boat"})
    benign, poisoned, _ = scan_checkpoints(checkpoint_template)
    report = evaluate(
        [benign, replace(poisoned, poison=poison)], extractor, CONCEPTS, EvaluationConfig(seeds=(0,), steps=1, size=32),
        control=benign.name, drawings=tmp_path, difficulties={}, readers=readers,
    )  # fmt: skip
    assert {"extractor", "aesthetics", "classifier"} == report["readers"].keys()
    control, model = report["models"]
    assert control["clip_accuracy"]["all"]["mean"] == pytest.approx(2 / 3), "all but the lowest tenth of three"
    assert model["clip_aesthetic_utility"]["all"]["mean"] <= model["aesthetics"]["all"]["mean"]
    assert model["classifier_accuracy"]["all"]["mean"] in (0, 0.5, 1), "of dog and turtle, which have a class"
    assert control["not_measured"]["poison_success"] == "the model is not poisoned"
    assert model["poison_success"]["all"]["mean"] in (0, 1), "of the dog, whose target is in the list"
    assert model["poison_success"]["unpoisoned"] is None
