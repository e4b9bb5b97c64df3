"""The kit's smoke run, and what a part that fails, hangs or is out of time does to the others."""

import json
import sys
import time
from dataclasses import replace

import pytest

from explorer.benchmarks import gpu_kit
from explorer.benchmarks.gpu_kit import PART_NAMES, GpuKit, Part
from explorer.benchmarks.gpu_parts import recipe_of
from explorer.benchmarks.gpu_results import BEGIN, END, merged, take_in
from explorer.benchmarks.gpu_tables import gpu_section
from explorer.benchmarks.training_turns import OURS, PLAIN
from explorer.checkpoints.registry import scan_checkpoints
from explorer.core.provenance import read_manifest

FIGURES = {
    "alignment": {"matmul_operations_per_second", "results", "ratios", "largest_disagreement", "profile", "landmarks"},
    "capture": {"captures", "profile"},
    "training_sd15": {"samples_per_second", "speedup", "peak_bytes", "profile", "layouts"},
    "training_sdxl": {"samples_per_second", "speedup_of_medians", "peak_bytes", "batch_size"},
    "training_sd15_recorded": {"samples_per_second", "speedup"},
    "embeddings": {"extraction", "profile"},
    "clean_label": {"perturbations"},
}


OWN_PROCESS = ("machine", "cuda-tests", "world", "evaluation")
"""Parts that the smoke run starts as the kit does; the others run here, where what they import is imported already."""


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The whole kit with tiny settings: minutes, once."""
    folder, start = tmp_path_factory.mktemp("kit"), gpu_kit._start

    def begin(command, log):
        if _part_of(command) in OWN_PROCESS:
            return start(command, log)
        exec(command[2], {})
        return start([sys.executable, "-S", "-c", ""], log)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu_kit, "_start", begin)
        kit = GpuKit(output=folder / "out", work=folder / "work", minutes=120, smoke=True, device="cpu")
        return folder, kit.run()


@pytest.mark.slow
def test_every_part_of_the_smoke_run_is_done(smoke):
    _, report = smoke
    ended = {name: (part["status"], part["log_end"][-1000:]) for name, part in report["parts"].items()}
    assert {name: status for name, (status, _) in ended.items() if status != "done"} == {}, ended
    assert set(report["parts"]) == set(PART_NAMES)


@pytest.mark.slow
def test_every_figure_says_what_gave_it(smoke):
    _, report = smoke
    assert set(report["reports"]) == set(PART_NAMES)
    assert report["reports"]["cuda-tests"]["tests"] > 150
    for name in PART_NAMES[3:]:
        assert report["reports"][name]["device"] == "cpu", name


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_a_row_has_its_figures(smoke, name):
    report = smoke[1]["reports"][name]
    assert report.keys() >= {"device", "gpu", "torch", "triton", "code_version", "row_seconds"} | FIGURES[name]
    assert "errors" not in report


@pytest.mark.slow
def test_alignment_says_how_near_the_limit_each_peer_is(smoke):
    report = smoke[1]["reports"]["alignment"]
    measured = [row for row in report["results"] if row["seconds"] is not None]
    for row in measured:
        useful = 2 * row["n"] ** 2 * report["d"] / row["seconds"]
        assert row["share_of_matmul_rate"] == pytest.approx(useful / report["matmul_operations_per_second"])
    assert {row["n"] for row in measured} == {200, 300, 400}
    found = [each for each in report["largest_disagreement"].values() if each is not None]
    assert max(found) < report["agreement_goal"]


@pytest.mark.slow
def test_capture_stands_beside_others(smoke):
    captures = smoke[1]["reports"]["capture"]["captures"]
    assert set(captures) == {"fp32", "fp32, beside others", "bf16"}
    assert set(captures["fp32"]) == {"ours"}
    assert set(captures["fp32, beside others"]) == {"ours", "DAAM-style", "prompt-to-prompt-style"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["training_sd15", "training_sdxl"])
def test_both_training_loops_are_timed(smoke, name):
    rates = {loop: found["median"] for loop, found in smoke[1]["reports"][name]["samples_per_second"].items()}
    assert set(rates) == {OURS, PLAIN}
    assert min(rates.values()) > 0


@pytest.mark.slow
def test_the_worlds_models_come_back_and_the_page_shows_the_figures(smoke, tmp_path):
    folder, report = smoke
    real = folder / "real"
    real.mkdir(exist_ok=True)
    for name in report["shards"]["names"]:
        (real / name).write_bytes((folder / "work" / "shards" / name).read_bytes())
    (real / "report.json").write_text(json.dumps(report | {"smoke": False}))
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    places = {"figures": tmp_path / "figures", "page": page, "models": tmp_path / "models"}
    told = take_in([real], **places)
    assert told["models"] == ["base", "benign", "dirty-002", "dirty-004", "dirty-006", "extractor"]
    models = {model.name: model for model in scan_checkpoints(tmp_path / "models")}
    assert models["dirty-006"].problem is None
    assert read_manifest(tmp_path / "models" / "base")["config"]["recipe"] == "smoke"
    assert (tmp_path / "models" / "evaluation" / "evaluation.json").is_file()
    assert "old" not in page.read_text()
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith("after\n")
    assert sorted(path.stem for path in (tmp_path / "figures").iterdir()) == sorted(PART_NAMES)
    with pytest.raises(ValueError, match="exists: expected a new folder"):
        take_in([real], **places)


@pytest.mark.slow
def test_a_smoke_run_is_not_taken_in(smoke, tmp_path):
    with pytest.raises(ValueError, match="holds a smoke run"):
        take_in([smoke[0] / "out"], page=tmp_path / "page.md", models=tmp_path / "models")


def test_of_a_part_that_several_runs_made_the_last_counts(tmp_path):
    for number, parts in enumerate(({"machine": "done", "capture": "failed"}, {"capture": "done"})):
        run = tmp_path / str(number)
        run.mkdir()
        reports = {name: {"device": f"card {number}"} for name in parts}
        states = {name: {"status": status} for name, status in parts.items()}
        whole = {"smoke": False, "code_version": f"v{number}", "parts": states, "reports": reports}
        (run / "report.json").write_text(json.dumps(whole | {"shards": {"names": []}}))
    found, shards, home = merged([tmp_path / "0", tmp_path / "1"])
    assert home is None
    assert shards == {}
    assert found["capture"] == {"status": "done", "code_version": "v1", "device": "card 1"}
    assert found["machine"] == {"status": "done", "code_version": "v0", "device": "card 0"}


@pytest.mark.slow
def test_figures_of_earlier_runs_stay_on_the_page(smoke, tmp_path):
    page, figures = tmp_path / "page.md", tmp_path / "figures"
    page.write_text(f"{BEGIN}\n{END}\n")
    for name in ("alignment", "capture"):
        run = tmp_path / name
        run.mkdir()
        whole = smoke[1] | {"smoke": False, "parts": {name: {"status": "done"}}, "shards": {"names": []}}
        (run / "report.json").write_text(json.dumps(whole))
        take_in([run], figures=figures, page=page, models=tmp_path / "models")
    tables = page.read_text().split("**Fine-tuning")[0]
    assert "| gpu-" in tables or "| blocked" in tables
    assert "| prompt-to-prompt-style |" in tables


@pytest.mark.slow
def test_the_section_says_what_was_not_measured(smoke):
    alignment = smoke[1]["reports"]["alignment"] | {"status": "out of time"}
    section = gpu_section({"alignment": alignment, "capture": {"status": "failed", "code_version": "v0"}})
    assert "**Exact structure AD** (out of time)" in section
    assert "**Attention capture at SD 1.5's size** (failed)\n\nnot measured." in section


@pytest.fixture
def scripted(monkeypatch, tmp_path):
    """A kit whose parts are small scripts."""

    def make(minutes=1.0, **scripts):
        named = {name: (source, seconds) for name, (source, seconds) in scripts.items()}
        parts = tuple((Part(name=name, seconds=seconds),) for name, (_, seconds) in named.items())
        monkeypatch.setattr(gpu_kit, "SCHEDULE", parts)
        monkeypatch.setattr(gpu_kit, "PART_NAMES", tuple(named))
        monkeypatch.setattr(gpu_kit, "PACKING_SECONDS", 0)
        monkeypatch.setattr(gpu_kit, "GRACE_SECONDS", 0.5)
        start = gpu_kit._start
        monkeypatch.setattr(
            gpu_kit, "_start", lambda command, log: start([sys.executable, "-c", named[_part_of(command)][0]], log)
        )
        return GpuKit(output=tmp_path / "out", work=tmp_path / "work", minutes=minutes, parts=tuple(named))

    return make


def _part_of(command):
    return command[2].split("carry_out('")[1].split("'")[0]


def test_what_fails_or_hangs_does_not_stop_the_next(scripted, tmp_path):
    reports = tmp_path / "work" / "reports"
    kit = scripted(
        fails=("raise SystemExit('no such kernel')", 30),
        hangs=(f"import time; open({str(reports / 'hangs.json')!r}, 'w').write('{{\"n\": 1}}'); time.sleep(60)", 1),
        works=("print('figures')", 30),
    )
    began = time.monotonic()
    report = kit.run()
    assert {name: part["status"] for name, part in report["parts"].items()} == {
        "fails": "failed", "hangs": "out of time", "works": "done"
    }  # fmt: skip
    assert "no such kernel" in report["parts"]["fails"]["log_end"]
    assert report["reports"] == {"hangs": {"n": 1}}
    assert time.monotonic() - began < 30
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report


def test_what_a_late_part_started_ends_with_it(scripted, tmp_path):
    alive = tmp_path / "alive"
    child = f"import time\nfor _ in range(600): open({str(alive)!r}, 'a').write('.'); time.sleep(0.05)"
    kit = scripted(late=(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])", 1.5))
    kit.run()
    time.sleep(0.3)
    size = alive.stat().st_size
    assert size > 0
    time.sleep(0.5)
    assert alive.stat().st_size == size


def test_without_time_left_a_part_is_not_begun(scripted):
    report = scripted(minutes=0.02, slow=("import time; time.sleep(60)", 30), next=("print(1)", 30)).run()
    assert report["parts"]["slow"]["status"] == "out of time"
    assert report["parts"]["next"]["status"] == "no time left"


def test_unknown_parts_and_no_time_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"parts are \['paint'\]: expected some of machine"):
        GpuKit(output=tmp_path, work=tmp_path, minutes=1, parts=["machine", "paint"])
    with pytest.raises(ValueError, match="minutes is 0: expected a positive number"):
        GpuKit(output=tmp_path, work=tmp_path, minutes=0)


def test_the_smoke_recipe_is_the_full_one_but_for_sizes():
    small, full = recipe_of(True), recipe_of(False)
    assert replace(small.fine_tuning, steps=1, batch_size=1) == replace(
        full.fine_tuning, steps=1, batch_size=1, graphed=False, precision="no"
    )
