"""The benchmark of filters: its peer gives the same curves, and its table says what was measured."""

from explorer.benchmarks.filters import benchmark_filters, markdown


def test_the_peer_agrees_and_everything_is_told():
    report = benchmark_filters(300, scores=3, d=16, rounds=2)
    assert report["largest_deviation"] < 1e-6
    assert report["passes_for_all_scores_seconds"] == 3 * report["pass_for_one_score_seconds"]
    table = markdown(report)
    assert table.startswith("| 300 pairs, 3 scores, d = 16 | measured | goal |")
    assert "| report milliseconds |" in table
    assert "| 50.0 |" in table
    assert "curves seconds" in markdown(benchmark_filters(300, scores=2, d=16, rounds=1, peer=False))
