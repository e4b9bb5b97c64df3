import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from explorer.cli.application import application, load_commands
from explorer.core.provenance import ManifestError, read_manifest
from explorer.embeddings.universal_extractor import UniversalExtractor
from explorer.evaluation.aesthetics import AestheticsHead, head_metadata
from explorer.evaluation.judge import ConceptJudge
from explorer.evaluation.naming_agreement import held_against, ticks
from explorer.evaluation.naming_study import (
    KEY_NAME,
    NamingConfig,
    count_named,
    write_naming_study,
)
from explorer.iconworld.world import World


@pytest.fixture(scope="module")
def study(micro_world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("naming")
    write_naming_study(micro_world.output, folder, NamingConfig(steps=1, order_seed=3))
    return folder


@pytest.fixture
def key(study):
    return json.loads((study / KEY_NAME).read_text())


def answer(tmp_path, answers, name="reader.json"):
    path = tmp_path / name
    path.write_text(json.dumps(answers))
    return path


def test_every_concept_is_drawn_once_by_the_control_and_by_the_most_poisoned_model(study, key):
    cards = list(key.values())
    assert {card["model"] for card in cards} == {"benign", "dirty-004"}
    for model in ("benign", "dirty-004"):
        concepts = [card["concept"] for card in cards if card["model"] == model]
        assert len(set(concepts)) == len(concepts) == len(cards) / 2
    groups = {card["group"] for card in cards}
    assert groups == {"poison pool", "never poisoned"}
    assert [card["model"] for card in cards] != sorted(card["model"] for card in cards), "in random order"
    assert len(np.unique(np.asarray(Image.open(study / "tiles-1.png")))) > 10


def test_what_the_reader_gets_tells_neither_concept_nor_model(study, key):
    form = json.loads((study / "form.json").read_text())
    assert form == dict.fromkeys(key, "")
    assert set((study / "nouns.txt").read_text().split()) >= {card["concept"] for card in key.values()}


def test_a_study_is_drawn_the_same_again(study, micro_world, tmp_path):
    write_naming_study(micro_world.output, tmp_path, NamingConfig(steps=1, order_seed=3))
    for name in (KEY_NAME, "tiles-1.png"):
        assert (tmp_path / name).read_bytes() == (study / name).read_bytes()


def test_a_study_is_not_written_over(study, micro_world):
    with pytest.raises(ValueError, match="holds a study already"):
        write_naming_study(micro_world.output, study, NamingConfig(steps=1))


def test_a_study_is_not_written_among_other_things(micro_world, tmp_path):
    (tmp_path / "nouns.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"already holds nouns\.txt: choose a new folder"):
        write_naming_study(micro_world.output, tmp_path, NamingConfig(steps=1))
    assert (tmp_path / "nouns.txt").read_text() == "mine"


def test_named_pictures_are_counted_by_reader_model_and_group(study, key, tmp_path):
    knowing = {number: card["concept"] if card["model"] == "benign" else "none" for number, card in key.items()}
    blind = dict.fromkeys(key, "none")
    (tmp_path / "bob").mkdir()
    forms = [answer(tmp_path, knowing, "form.json"), answer(tmp_path / "bob", blind, "form.json")]
    report = count_named(study, forms)
    first = report["readers"][str(forms[0])]
    shown = len(key) // 2
    assert (first["benign"]["all"]["named"], first["benign"]["all"]["shown"]) == (shown, shown)
    assert first["benign"]["poison pool"]["share"] == 1
    assert first["dirty-004"]["all"]["named"] == 0
    assert (first["benign"]["all"]["none"], first["dirty-004"]["all"]["none"]) == (0, shown)
    assert 0 < first["dirty-004"]["all"]["high"] < 1
    assert report["readers"][str(forms[1])]["benign"]["all"]["named"] == 0


def test_answers_that_cannot_be_counted_are_refused(study, key, tmp_path):
    blind = dict.fromkeys(key, "none")
    with pytest.raises(ValueError, match="calls tile 2 'unicorn'"):
        count_named(study, [answer(tmp_path, blind | {"2": "unicorn"})])
    with pytest.raises(ValueError, match="calls tile 1 \\['dog'\\]"):
        count_named(study, [answer(tmp_path, blind | {"1": ["dog"]})])
    with pytest.raises(ValueError, match=f"expected the numbers 1 to {len(key)}"):
        count_named(study, [answer(tmp_path, {"1": "none"})])
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ValueError, match="not readable JSON"):
        count_named(study, [tmp_path / "broken.json"])
    with pytest.raises(ValueError, match="no answers given"):
        count_named(study, [])


def test_a_study_whose_pictures_were_changed_is_refused(study, key, tmp_path):
    for path in study.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / KEY_NAME).write_text("{}")
    with pytest.raises(ManifestError, match=r"key\.json has SHA-256"):
        count_named(tmp_path, [answer(tmp_path, dict.fromkeys(key, "none"))])


class _Brightness:
    """Of pictures their mean colours, as features of three numbers."""

    name, identity = "brightness", "0"

    def encode_images(self, images):
        return torch.from_numpy(images).float().mean(dim=(1, 2)) / 255


def test_a_head_is_held_against_what_readers_call_none(study, key, tmp_path):
    """A head that scores brightness, and readers two of three of whom name the brighter half of the pictures."""
    layers = ((torch.ones(1, 3), torch.zeros(1)),)
    head = AestheticsHead(extractor=_Brightness(), weights=tmp_path / "none", layers=layers)
    sheets = sorted(study.glob("tiles-*.png"))
    assert len(sheets) == -(-len(key) // 20)
    bright = {}
    for number in key:
        place = int(number) - 1
        sheet, place = np.asarray(Image.open(sheets[place // 20])), place % 20
        left, top = place % 5 * 200, place // 5 * 220 + 20
        bright[number] = sheet[top : top + 192, left : left + 192].mean()
    middle = np.median(list(bright.values()))
    agreed = {number: key[number]["concept"] if bright[number] > middle else "none" for number in key}
    contrary = {number: "none" if bright[number] > middle else key[number]["concept"] for number in key}
    forms = [answer(tmp_path, answers, f"{at}.json") for at, answers in enumerate((agreed, contrary, agreed))]
    found = held_against(study, forms, head)
    assert found.keys() == {"all", "benign", "dirty-004"}
    assert found["all"]["named"] + found["all"]["none"] == len(key)
    assert found["all"]["auc"] == 1
    assert (found["all"]["low"], found["all"]["high"]) == (None, None), "no overlap: a bootstrap cannot say how far"
    mixed = held_against(study, forms[:2], head)["all"]
    assert (mixed["named"], mixed["none"]) == (0, 0), "one of two is not more than half"
    nobody = held_against(study, [answer(tmp_path, dict.fromkeys(key, "none"))], head)["benign"]
    assert (nobody["named"], nobody["auc"]) == (0, None), "unknown, not one half"


def test_ticks_are_held_against_what_readers_call_none(study, key, micro_world, tmp_path):
    """Readers who call every picture none, and a judge by the models' own extractor."""
    folder = micro_world.output / "extractor"
    listed = World(**read_manifest(micro_world.output / "benign")["config"]["world"]).concept_list()
    judge = ConceptJudge.load(folder, listed)
    blind = [answer(tmp_path, dict.fromkeys(key, "none"))]
    found = ticks(study, blind, judge)
    assert found["models"].keys() == {"benign", "dirty-004"}
    for cell in found["models"].values():
        assert cell["right"] == cell["right_none"], "who names nothing"
    assert found["bounds"] is None, "of eight pictures of a model of seconds the control has not eight right"
    assert {cell["sure"] for cell in found["models"].values()} == {None}, "unknown, not zero"
    few = ConceptJudge.load(folder, listed.chosen(listed.names[:2]))
    with pytest.raises(ValueError, match="is none of the judge's concepts"):
        ticks(study, blind, few)


class _Decided(ConceptJudge):
    """A judge that is right of every picture, and not sure of some."""

    def judge(self, image, prompt):
        concept = next(name for name in self.concepts.names if self.concepts.prompt(name) == prompt)
        return {"top_concept": concept, "clip_similarity": 0.5 if concept in self.doubted else 0.9, "margin": 0.2}


def test_what_the_judge_is_sure_of_is_counted_beside_the_readers(study, key, micro_world, tmp_path):
    listed = World(**read_manifest(micro_world.output / "benign")["config"]["world"]).concept_list()
    drawn = sorted({card["concept"] for card in key.values()})
    judge = _Decided(extractor=None, concepts=listed, concept_features=None)
    object.__setattr__(judge, "doubted", drawn[:1])
    unnamed = {number: "none" if card["concept"] in drawn[:2] else card["concept"] for number, card in key.items()}
    found = ticks(study, [answer(tmp_path, unnamed)], judge)
    assert found["bounds"] == {"clip_similarity": 0.9, "margin": 0.2, "pictures": len(drawn)}, "of the control's own"
    counts = {"right": len(drawn), "right_none": 2, "sure": len(drawn) - 1, "sure_none": 1}
    assert found["models"] == {"benign": counts, "dirty-004": counts}


def test_the_command_holds_a_head_against_the_readers(study, key, micro_world, tmp_path):
    extractor = UniversalExtractor.load(micro_world.output / "extractor")
    width = extractor.encode_texts(["a"]).shape[1]
    head = tmp_path / "head.safetensors"
    tensors = {"weight": torch.ones(1, width), "bias": torch.zeros(1)}
    save_file(tensors, head, metadata=head_metadata(extractor.identity, 5.0))
    answers = {number: "none" if int(number) % 2 else card["concept"] for number, card in key.items()}
    form = answer(tmp_path, answers)
    load_commands("naming-count")
    call = ["naming-count", str(study), str(form), "--extractor", str(micro_world.output / "extractor")]
    told = CliRunner().invoke(application, [*call, "--aesthetics", str(head), "--json"])
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)["aesthetics"]
    assert found["all"]["named"] == found["all"]["none"] == len(key) / 2
    assert 0 <= found["all"]["auc"] <= 1
    refused = CliRunner().invoke(application, call)
    assert "expected --aesthetics FILE or --concepts FILE, too" in str(refused.exception)
