"""Braces as a shell expands them: ranges, padding, steps, lists, and what belongs to the name."""

import pytest

from explorer.pairs.sources.shard_names import MOST_NAMES, expand_braces


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("s/{00008..00011}.tar", ["s/00008.tar", "s/00009.tar", "s/00010.tar", "s/00011.tar"]),
        ("{8..10}", ["8", "9", "10"]),
        ("{08..10}", ["08", "09", "10"]),
        ("{1..010}", [f"{number:03d}" for number in range(1, 11)]),
        ("{0..5..2}", ["0", "2", "4"]),
        ("{3..1}", ["3", "2", "1"]),
        ("{a,b}/{0..1}.tar", ["a/0.tar", "a/1.tar", "b/0.tar", "b/1.tar"]),
        ("{a,}x", ["ax", "x"]),
        ("{x}.tar", ["{x}.tar"]),
        ("{..}{}", ["{..}{}"]),
        ("no braces.tar", ["no braces.tar"]),
    ],
)
def test_names(pattern, names):
    assert expand_braces(pattern) == names


def test_slips_are_refused():
    with pytest.raises(ValueError, match=r"\{0\.\.9\.\.0\} counts by 0: expected a step of at least 1"):
        expand_braces("{0..9..0}")
    with pytest.raises(ValueError, match=f"stands for 10000000000 names: expected at most {MOST_NAMES}"):
        expand_braces("{0..9999999999}")
    with pytest.raises(ValueError, match="stands for 4000000 names"):
        expand_braces("{1..2000}/{1..2000}")
