"""How a run of pytest ended, read from its results, or from its log where it was cut off."""

from explorer.benchmarks.cuda_tests import read_test_log, read_test_results


def test_results_are_counted(tmp_path):
    path = tmp_path / "results.xml"
    path.write_text(
        "<testsuites><testsuite><testcase classname='a' name='one'/><testcase classname='a' name='two'>"
        "<failure message='x'>it was 3</failure></testcase><testcase classname='a' name='three'>"
        "<skipped message='no GPU'/></testcase></testsuite></testsuites>"
    )
    assert read_test_results(path) == {
        "tests": 3, "passed": 1, "skipped": {"a::three": "no GPU"}, "failed": {"a::two": "it was 3"}, "not_ended": 0
    }  # fmt: skip


def test_a_log_that_was_cut_off_says_how_many_did_not_end():
    several = """
7 workers [5 items]
tests/a/test_cuda_x.py::test_one[a b]
[gw3] [ 20%] PASSED tests/a/test_cuda_x.py::test_one[a b]
[gw1] [ 40%] FAILED tests/a/test_cuda_x.py::test_two
tests/a/test_cuda_x.py::test_three
"""
    found = read_test_log(several)
    assert (found["tests"], found["passed"], found["not_ended"]) == (5, 1, 3)
    assert list(found["failed"]) == ["tests/a/test_cuda_x.py::test_two"]
    alone = "collected 3 items\n\ntests/a/test_cuda_x.py::test_one PASSED [ 33%]\ntests/a/test_cuda_x.py::test_two "
    assert read_test_log(alone)["not_ended"] == 2


def test_a_log_without_a_number_makes_none_up():
    found = read_test_log("ImportError: no module")
    assert found["tests"] is found["not_ended"] is None
