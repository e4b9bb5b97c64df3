"""README and docs are documentation that is run: what they name exists, what they show prints what they say."""

import contextlib
import io
import json
import re

import pytest

from explorer.cli.application import application, load_commands
from explorer.core.provenance import ROOT
from tests.test_rooms import ROOMS

LONGEST_README = 130
GENERATED = "commands.md"
"""Made from the command line itself (and tested where it is made): what it names says nothing about the other pages."""
MAKES_THE_PAGE = "commands-page"
"""The command that prints it; no room's page has a use for it."""
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
         for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
         if path.name != GENERATED}  # fmt: skip
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FOLDERS = ("explorer", "tests", "docs", "assets", "checkpoints")


@pytest.fixture(scope="module")
def command_line():
    from typer.main import get_command

    load_commands()
    return get_command(application)


def named_commands(text):
    """Every ``python -m explorer ...`` of a page: its words up to the end of the code, comments left out."""
    blocks = [body.replace("\\\n", " ") for _, body in FENCE.findall(text)]
    lines = [line.split(" #")[0] for block in blocks for line in block.splitlines()]
    inline = [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", FENCE.sub("", text))]
    for code in (*lines, *inline):
        found = re.search(r"-m explorer (.+)", code)
        if found:
            yield found[1].split()


def resolved(command_line, words):
    """(the command that ``words`` name or None, its name)."""
    command = command_line.commands.get(words[0])
    if command is not None and hasattr(command, "commands"):
        return command.commands.get(words[1] if len(words) > 1 else ""), " ".join(words[:2])
    return command, words[0]


def leaves(command, name=""):
    for key, child in command.commands.items():
        yield from leaves(child, f"{key} ") if hasattr(child, "commands") else [(name + key, child)]


@pytest.mark.parametrize("page", TEXTS)
def test_every_command_and_option_that_a_page_names_exists(page, command_line):
    for words in named_commands(TEXTS[page]):
        if words[0].isupper():  # COMMAND stands for any
            continue
        command, name = resolved(command_line, words)
        assert command is not None, f"{page} names `explorer {name}`"
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        known |= {"--help"}
        asked = {word.split("=")[0] for word in words if word.startswith("--")}
        assert asked <= known, f"{page} gives `explorer {name}` {sorted(asked - known)}"


def test_commands_are_found_where_pages_name_them():
    text = (
        'So `python -m explorer ad\nSET --json`:\n```\ntorchrun -m explorer embed "a" B \\\n    --size 3  # --no\n```\n'
    )
    assert list(named_commands(text)) == [["embed", '"a"', "B", "--size", "3"], ["ad", "SET", "--json"]]


def test_every_command_is_named_on_a_page(command_line):
    named = {resolved(command_line, words)[1] for text in TEXTS.values() for words in named_commands(text)}
    assert sorted({name for name, _ in leaves(command_line)} - named - {MAKES_THE_PAGE}) == []


def test_every_command_prints_json_on_request(command_line):
    without = [
        name
        for name, leaf in leaves(command_line)
        if name != "app" and not any("--json" in parameter.opts for parameter in leaf.params)
    ]
    assert without == []


@pytest.mark.parametrize("page", TEXTS)
def test_every_path_that_a_page_names_exists(page):
    named = re.findall(rf"(?<![\w./-])((?:{'|'.join(FOLDERS)})/[\w./-]*\w)(?![-\w*{{(])", TEXTS[page])
    missing = [path for path in named if not (ROOT / path).exists()]
    assert missing == []


@pytest.mark.parametrize("page", TEXTS)
def test_every_link_of_a_page_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[page]):
        if "://" in target:
            continue
        path, _, section = target.partition("#")
        there = (ROOT / page).parent / path if path else ROOT / page
        assert there.exists(), f"{page} links to {target}"
        if section:
            titles = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert section in slugs, f"{page} links to {target}"


def test_readme_is_short_and_leads_to_every_page():
    assert len(TEXTS["README.md"].splitlines()) <= LONGEST_README
    for path in sorted((ROOT / "docs").glob("*.md")):
        assert f"(docs/{path.name})" in TEXTS["README.md"], f"README links to docs/{path.name}"


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_has_a_page_tests_and_a_place_in_the_lists_of_rooms(room):
    assert (ROOT / "tests" / room).is_dir()
    assert f"`explorer/{room}`" in TEXTS[f"docs/{room}.md"]
    assert f"| [{room}](docs/{room}.md) |" in TEXTS["README.md"]
    assert f"| [{room}]({room}.md) |" in TEXTS["docs/architecture.md"]


def test_the_lists_of_rooms_are_in_the_order_of_their_imports():
    for page in ("README.md", "docs/architecture.md"):
        assert tuple(re.findall(r"^\| \[(\w+)\]\(", TEXTS[page], re.MULTILINE)) == ROOMS


def with_interval(value, digits=3):
    """Over concepts, or prompts: the five noises are no replications."""
    if value is None:
        return "–"
    numbers = {"mean": value["mean"], **value["over_concepts"]}
    mean, low, high = (f"{numbers[name]:.{digits}f}" for name in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def test_the_tables_of_results_are_what_was_measured():
    report = json.loads(
        (ROOT / "assets" / "studies" / "iconworld" / "results" / "evaluation" / "evaluation.json").read_text()
    )
    for model in report["models"]:
        group = {name: value["unpoisoned"] for name, value in model.items()
                 if isinstance(value, dict) and "unpoisoned" in value}  # fmt: skip
        accuracy, difficulty = model["accuracy"], model["alignment_difficulty"]
        drawn = [str(model["poisoned_concept_count"])]
        drawn += [f"{difficulty[name]:.3f}" for name in ("feature_ad", "structure_ad", "ad")]
        drawn += [with_interval(accuracy[name]) for name in ("all", "unpoisoned", "poisoned")]
        maps = [with_interval(group[name]) for name in ("late_contiguity", "contiguity", "scatter")]
        maps += [with_interval(model["word_overlap"]), with_interval(group["mask_mass"])]
        for cells in ([*drawn, with_interval(group["utility"])], [with_interval(group["late_word_mass"], 4), *maps]):
            assert f"| {model['name']} | {' | '.join(cells)} |" in TEXTS["docs/results.md"]


def test_the_table_of_equal_share_is_what_was_measured():
    arms = ("benign", "captions", "pictures", "dirty-060", "few-020", "few-005", "shuffled", "shared")
    runs = [
        {model["name"]: model["accuracy"]
         for model in json.loads((ROOT / "assets/experiments/equal-share" / run / "results/evaluation/evaluation.json")
                                 .read_text(encoding="utf-8"))["models"]}
        for run in ("seed-1", "seed-2", "seed-3")
    ]  # fmt: skip
    page = (ROOT / "docs/results.md").read_text(encoding="utf-8").split("## Matched-benign controls", 1)[1]
    rows = [line.split("|")[4:6] for line in page.splitlines() if line.startswith("| ") and "AD" not in line]
    expected = [
        [", ".join(f"{run[arm][group]['mean']:.3f}".lstrip("0") if arm in run else "–" for run in runs)
         for group in ("unpoisoned", "pool")]
        for arm in arms
    ]  # fmt: skip
    assert [[cell.strip() for cell in row] for row in rows[: len(arms)]] == expected


def test_the_table_of_riders_is_what_was_measured():
    found = json.loads(
        (ROOT / "assets/experiments/riders/results/evaluation/evaluation.json").read_text(encoding="utf-8")
    )
    page = TEXTS["docs/results.md"].split("## Riders", 1)[1].split("## ", 1)[0]
    for model in found["models"]:
        (row,) = (line.split("|") for line in page.splitlines()
                  if line.startswith("|") and ("control" if model["name"] == "benign" else f"`{model['name']}`") in line
                  and "less the" not in line)  # fmt: skip
        accuracy = model["accuracy"]
        cells = [f"{accuracy[group]['mean']:.3f}".lstrip("0") for group in ("unpoisoned", "pool")]
        assert [row[3].strip(), row[5].strip()] == cells


def test_the_table_of_scores_is_what_was_measured():
    place = ROOT / "assets" / "studies" / "iconworld" / "results" / "filters"
    arms = [json.loads((place / arm / "filters.json").read_text())["scores"] for arm in ("dirty-020", "dirty-060")]
    measured = [{score["name"]: score for score in scores} for scores in arms]

    def cell(value, digits, factor, unit=""):
        shown = {name: f"{factor * number:.{digits}f}" for name, number in value.items()}
        if value["low"] == value["high"]:  # all draws of the pairs agree
            return "{value} (no interval)".format(**shown) + unit
        return "{value} ({low} to {high})".format(**shown) + unit

    for name in measured[1]:
        found = [scores.get(name) for scores in measured]
        areas = [cell(score["auc"], 3, 1) if score else "not measured" for score in found]
        lost = [cell(score["at_half_the_poison"]["benign_lost_share"], 1, 100, " %") if score else "not measured"
                for score in found]  # fmt: skip
        assert f"| `{name}` | {' | '.join([*areas, *lost])} |" in TEXTS["docs/defence.md"]


def share(value):
    """A share with its interval, as a cell of a table."""
    return "none" if value is None else "{mean:.2f} ({low:.2f} to {high:.2f})".format(**value)


def test_the_tables_of_retrained_models_are_what_was_measured():
    place = ROOT / "assets" / "studies" / "iconworld" / "results" / "retrained"
    found = json.loads((place / "retrained.json").read_text())
    text = TEXTS["docs/defence.md"]
    assert f"the control {share(found['control']['metrics']['top1']['unpoisoned'])}" in text
    assert (
        f"the shipped model {share(found['arms']['dirty-060']['unfiltered']['metrics']['top1']['unpoisoned'])}" in text
    )
    for model in found["arms"]["dirty-060"]["models"]:
        less = [each and each["top1"]["unpoisoned"] for each in (model["against_random"], model["against_unfiltered"])]
        cells = [model["poison_removed"], model["benign_lost"], share(model["metrics"]["top1"]["unpoisoned"]),
                 *map(share, less)]  # fmt: skip
        assert f"| `{model['name']}` | {' | '.join(map(str, cells))} |" in text
    for model in found["arms"]["dirty-060"]["recovery"]:
        cells = [model["share"], model["steps"],
                 *(share(model["metrics"]["top1"][group]) for group in ("all", "unpoisoned", "poisoned"))]  # fmt: skip
        assert f"| {model['kept']:,} | {' | '.join(map(str, cells))} | " in text


def examples():
    """Of every page: its fenced Python, and the fenced text behind it, which is what that prints."""
    for page, text in TEXTS.items():
        blocks = FENCE.findall(text)
        for number, (language, body) in enumerate(blocks):
            if language == "python":
                following, shown = blocks[number + 1]
                assert following == "text", f"{page}: what an example prints follows it as ```text"
                yield pytest.param(body, shown, id=f"{page}-{number}")


def test_a_notebooks_page_has_three_examples():
    assert sum(parameter.id.startswith("docs/api.md") for parameter in examples()) == 3


@pytest.mark.parametrize(("example", "shown"), examples())
def test_an_example_prints_what_the_page_says(example, shown, tmp_path, monkeypatch):
    (tmp_path / "checkpoints").symlink_to(ROOT / "checkpoints")
    monkeypatch.chdir(tmp_path)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(example, "example", "exec"), {"__name__": "example"})
    assert printed.getvalue() == shown
