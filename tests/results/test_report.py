"""The comparisons on a page."""

import pytest

from explorer.core.intervals import Estimate
from explorer.core.provenance import ROOT
from explorer.results.comparison import Comparison, Quantity
from explorer.results.comparisons import compare_study
from explorer.results.further_runs import told_of_runs
from explorer.results.measured import Measured
from explorer.results.poisoned_base import of_study, on_poisoned_bases
from explorer.results.report import BEGIN, END, markdown, put_on_page
from explorer.studies.study import Study

SHIPPED = ROOT / "assets" / "studies" / "iconworld"


def test_the_page_holds_what_the_command_prints_of_the_shipped_study():
    shipped = Study.load(SHIPPED)
    own = Measured.of(shipped)
    comparisons = markdown(compare_study(shipped, own))
    text = f"{told_of_runs(shipped, own.runs)}\n\n{comparisons}\n\n{on_poisoned_bases(of_study(own))}"
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert page.partition(BEGIN)[2].partition(END)[0].strip() == text
    assert "0.378" in text, "clean accuracy at 500 concepts, of the benign model's, in the paper's Table 1"


def test_a_users_names_are_text_on_the_page_and_no_markup():
    here = Estimate(value=0.5, low=0.4, high=0.6, n=6)
    quantity = Quantity(what="of `x|y`", claim=(0.0, 1.0), here=here, over=f"pairs of <b>a</b>\n{END}")
    told = Comparison(name="Table 1", about="As `beside` says.", quantities=(quantity,), study="[a](b)",
                      differs="the poison here is d <i>i</i> | *x*")  # fmt: skip
    row, _, note = markdown([told]).splitlines()[2:]
    assert row == (
        r"| Table 1 | of \`x\|y\` | pictures | 0.500 [0.400, 0.600], over pairs of \<b\>a\</b\> "
        r"\<!-- explorer results: end --\> | not comparable |"
    )
    assert note == (
        r"- **Table 1**: As `beside` says. Measured in the study \[a\](b). Not comparable: "
        r"the poison here is d \<i\>i\</i\> \| \*x\*."
    )


def test_a_page_without_marks_is_left_as_it_is(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"a\n{BEGIN}\nold\n{END}\nb\n")
    put_on_page(page, "new")
    assert page.read_text() == f"a\n{BEGIN}\n\nnew\n\n{END}\nb\n"
    page.write_text("a\n")
    with pytest.raises(ValueError, match="lacks the marks"):
        put_on_page(page, "new")
    assert page.read_text() == "a\n"
