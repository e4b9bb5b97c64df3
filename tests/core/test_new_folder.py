"""Where results may be written: nothing that lies there already is ever written over."""

import pytest

from explorer.core.new_folder import appearing_whole, check_new_folder


def test_an_absent_an_empty_and_a_folder_of_hidden_files_are_new(tmp_path):
    check_new_folder(tmp_path / "a" / "b")
    check_new_folder(tmp_path)
    (tmp_path / ".DS_Store").touch()
    check_new_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".DS_Store"], "nothing is made"


def test_what_lies_there_is_named(tmp_path):
    for name in ("d.png", "b.png", "a.png", "c.png"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"already holds a\.png, b\.png, c\.png and 1 more: choose a new folder with"):
        check_new_folder(tmp_path, "--out")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    for place, named in (("a.png", "a.png"), ("a.png/x/y", "a.png"), ("gone", "gone")):
        with pytest.raises(ValueError, match=f"{named} is no folder: choose a new folder$"):
            check_new_folder(tmp_path / place)


def half_written(folder, problem):
    with appearing_whole(folder) as beside:
        (beside / "weights").write_text("half")
        raise problem


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "new" / "result"
    with pytest.raises(KeyboardInterrupt):
        half_written(folder, KeyboardInterrupt)
    assert list(folder.parent.iterdir()) == []
    folder.mkdir()
    (folder / ".hidden").touch()
    with appearing_whole(folder) as beside:
        assert beside.name == "result"
        (beside / "weights").write_text("whole")
        assert not (folder / "weights").exists()
    assert (folder / "weights").read_text() == "whole"


def test_what_came_to_lie_there_meanwhile_stays(tmp_path):
    with pytest.raises(ValueError, match="already holds weights: choose a new folder"):  # noqa: PT012, SIM117
        with appearing_whole(tmp_path / "result") as beside:
            (beside / "weights").write_text("1")
            (tmp_path / "result").mkdir()
            (tmp_path / "result" / "weights").write_text("2")
    assert (tmp_path / "result" / "weights").read_text() == "2"
