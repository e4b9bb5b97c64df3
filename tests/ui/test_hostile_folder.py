"""The page of a folder that holds every hostile checkpoint of the table at once."""

import importlib.util
import json
import os

import pytest
from fastapi.testclient import TestClient

from explorer.checkpoints.registry import read_checkpoint
from explorer.core.provenance import ROOT
from explorer.ui.screens.checkpoints.base_chooser import base_updates
from explorer.ui.screens.checkpoints.registry_table import registry_table
from explorer.ui.screens.checkpoints.screen import header_facts, origin_notice
from explorer.ui.screens.compare.screen import chooser_updates
from explorer.ui.shell.application import make_application_server
from explorer.ui.shell.concepts import read_concepts
from explorer.ui.shell.context import AppContext, AppSettings

EXTRACTOR = (
    '{"a":' * 1000,
    '{"config": []}',
    '{"config": {"world": 3}}',
    '{"config": {"world": {"concept_count": "x"}}}',
)


def rows():
    spec = importlib.util.spec_from_file_location("rows", ROOT / "tests" / "hostile" / "checkpoints_rows.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """Every spoiled checkpoint beside one sound one, each under its number."""
    table, root = rows(), tmp_path_factory.mktemp("crowded")
    table.copy_model(root / "sound")
    spoils = [spoil for name, (spoil, _) in table.SPOILED.items() if name != "ten thousand folders"]
    spoils += [table.stand_on(base) for base, _ in table.BASES.values()]
    spoils += [table.record(name) for name in table.RECORDED]
    for number, spoil in enumerate(spoils):
        around = root / f"{number}"
        table.copy_model(around / "spoiled")
        spoil(around / "spoiled")
    return root


@pytest.fixture
def settings(crowded):
    return AppSettings(checkpoints=crowded)


def test_one_sound_checkpoint_among_all_the_others_stays_usable(settings):
    context = AppContext(settings=settings)
    opened = context.study()
    found = {checkpoint.name: checkpoint for checkpoint in opened.registry()}
    assert found["sound"].problem is None
    assert "sound" in chooser_updates(opened)[0]["choices"]
    read_concepts(opened)
    shown = [registry_table(opened), header_facts(context, opened), origin_notice(opened), base_updates(opened)]
    shown.append(chooser_updates(opened))
    json.dumps(shown, ensure_ascii=False).encode("utf-8")
    assert any("spoiled\\xff\\x1b[2J" in name for name in found)
    assert not any("/up/" in name or "/above/" in name for name in found)


def test_the_page_of_such_a_folder_is_served(settings):
    client = TestClient(make_application_server(settings), base_url="http://127.0.0.1")
    assert client.get("/").status_code == 200
    assert r"spoiled\\xff\\x1b[2J" in json.dumps(client.get("/config").json())


@pytest.mark.parametrize("manifest", EXTRACTOR)
def test_whatever_an_extractor_s_manifest_says_the_page_is_served(tmp_path, manifest):
    root = tmp_path / os.fsdecode(b"models\xff")
    (root / "extractor").mkdir(parents=True)
    (root / "extractor" / "manifest.json").write_text(manifest)
    client = TestClient(
        make_application_server(AppSettings(checkpoints=root)),
        base_url="http://127.0.0.1",
    )
    assert client.get("/").status_code == 200


def test_a_base_that_is_no_printable_path_is_refused(tmp_path):
    from explorer.checkpoints.registry import set_base

    table = rows()
    base = tmp_path / "elsewhere" / os.fsdecode(b"base\xff")
    table.copy_model(base)
    table.copy_model(tmp_path / "part")
    (tmp_path / "part" / "model_index.json").unlink()
    with pytest.raises(ValueError, match=r"base\\xff cannot be written into a manifest"):
        set_base(tmp_path / "part", base)
    assert read_checkpoint(base).name == "base\\xff"
