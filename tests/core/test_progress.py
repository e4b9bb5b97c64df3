"""One report of progress from every loop."""

import pytest

from explorer.core.progress import Progress, Tally, counted, note, unheard


def test_a_loop_counts_what_is_done_with():
    seen = []
    for item in counted("abc", seen.append, "letters", "letter"):
        seen.append(item)
    assert [each if isinstance(each, str) else each.done for each in seen] == [0, "a", 1, "b", 2, "c", 3]
    assert {(each.task, each.total, each.unit) for each in seen if not isinstance(each, str)} == {
        ("letters", 3, "letter")
    }


def test_a_tally_counts_over_several_loops():
    seen = []
    tally = Tally(seen.append, "pictures", None, "picture")
    tally.add(5)
    tally.add(2, message="two more")
    assert [(each.done, each.total, each.message) for each in seen] == [
        (0, None, ""),
        (5, None, ""),
        (7, None, "two more"),
    ]


@pytest.mark.parametrize(
    ("progress", "share"),
    [
        (Progress(task="a", done=5, total=10), 0.5),
        (Progress(task="a", done=5, total=10, part=1, parts=2), 0.75),
        (Progress(task="a", done=5), 0.0),
        (Progress(task="a", total=0, part=1, parts=4), 0.25),
        (note("hello"), 0.0),
    ],
)
def test_the_share_is_of_all_parts(progress, share):
    assert progress.share == pytest.approx(share)
    assert unheard(progress) is None
