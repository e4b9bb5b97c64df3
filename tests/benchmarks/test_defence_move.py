from explorer.benchmarks.defence_move import GOALS, NAME, make_up_filters, markdown
from explorer.studies.filtering import scored_pairs
from explorer.studies.study import Study


def test_made_up_pairs_can_be_filtered_by_as_many_scores_as_were_asked_for(tmp_path):
    make_up_filters(tmp_path / NAME, 200, 3)
    pairs = scored_pairs(Study.load(tmp_path / NAME), NAME)
    assert len(pairs) == 200
    assert list(pairs.scores) == ["feature_distance", "score 2", "score 3"]
    assert 0 < pairs.flags.poisoned.sum() < 100


def test_the_table_names_goals_where_there_are_some():
    figures = {"first_shown_seconds": 1.5, "move_milliseconds": 20.0}
    lines = markdown({"pairs": 50_000, "scores": 12, "goals": GOALS, "figures": figures}).splitlines()
    assert lines[0].startswith("| 50,000 pairs, 12 scores |")
    assert lines[2:] == ["| first shown seconds | – | 1.5 |", "| move milliseconds | 50 | 20 |"]
