"""Where results may be written: nothing that lies there already is ever written over."""

import pytest

from explorer.core.new_folder import check_new_folder


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
