import pytest

from explorer.core.markdown import literal


@pytest.mark.parametrize(
    ("name", "written"),
    [("dirty-060, C_P = 60", "dirty-060, C_P = 60"), ("a <b>i</b>", r"a \<b\>i\</b\>"), ("a|b\nc", r"a\|b c"),
     ("[x](y) `z` *w*", r"\[x\](y) \`z\` \*w\*")],
)  # fmt: skip
def test_names_are_no_markup(name, written):
    assert literal(name) == written
