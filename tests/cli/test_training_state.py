"""Where a training keeps its state unless it is told."""

from pathlib import Path

from explorer.cli.training_state import default_state


def test_two_outputs_of_one_name_do_not_share_a_state(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = (default_state("fine-tune", Path(run) / "benign") for run in ("run-1", "run-2"))
    assert first != second
    assert first.name.startswith("benign-")
    assert first == default_state("fine-tune", tmp_path / "run-1" / ".." / "run-1" / "benign"), "from anywhere"


def test_a_state_of_an_earlier_release_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("explorer.cli.training_state.ROOT", tmp_path)
    (tmp_path / "runs" / "fine-tune" / "benign").mkdir(parents=True)
    default_state("fine-tune", tmp_path / "benign")
    assert "give --state" in capsys.readouterr().err
