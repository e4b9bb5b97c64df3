import pytest

from explorer.ui.shell.permalink import (
    MAX_STEPS,
    CompareSettings,
    check_settings,
    read_permalink,
    write_permalink,
)

SETTINGS = CompareSettings(
    prompt="a turtle left of a hat & more",
    seed=3,
    steps=12,
    guidance_scale=7.1234567,
    negative_prompt="dog",
    models=("a", "b"),
)


def parse(query):
    from urllib.parse import parse_qs

    fields = parse_qs(query.removeprefix("?"))
    return {name: values[-1] for name, values in fields.items()}, fields.get("m", [])


def test_a_permalink_reads_back_what_was_written():
    query, models = parse(write_permalink(SETTINGS))
    assert read_permalink(query, models, CompareSettings()) == SETTINGS


def test_it_is_short_and_versioned():
    link = write_permalink(CompareSettings(models=("benign", "dirty-060")))
    assert link == "?v=1&p=a+photo+of+a+turtle&s=7&n=20&g=4&m=benign&m=dirty-060"


def test_without_a_version_the_defaults_stay():
    assert read_permalink({"p": "x", "__theme": "dark"}, [], SETTINGS) is SETTINGS


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"v": "2"}, "This link is of version '2'; this app reads version 1."),
        ({"v": "1", "s": "seven"}, "The seed (s) of this link is 'seven': expected a number."),
        ({"v": "1", "n": "100000"}, "100000 denoising steps were asked for: 1 to 100 are possible."),
        ({"v": "1", "g": "nan"}, "The guidance scale is nan: expected 0 to 30."),
        ({"v": "1", "p": " "}, "The prompt is empty: write what the picture should show"),
        ({"v": "1", "s": "-1"}, "The seed is -1: expected a whole number from 0"),
    ],
)
def test_a_bad_link_is_explained(query, message):
    with pytest.raises(ValueError, match=r".") as error:
        read_permalink(query, ["a", "b"], CompareSettings())
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, f"0 denoising steps were asked for: 1 to {MAX_STEPS} are possible"),
        ({"prompt": "x" * 501}, "The prompt has 501 characters: at most 500"),
        ({"models": ("a",)}, "1 model is chosen: a comparison has 2 to 4 columns"),
        ({"models": tuple("abcde")}, "5 models are chosen"),
    ],
)
def test_settings_out_of_range_are_explained(change, message):
    settings = CompareSettings(**{"models": ("a", "b"), **change})
    with pytest.raises(ValueError, match=r".") as error:
        check_settings(settings)
    assert str(error.value).startswith(message)
