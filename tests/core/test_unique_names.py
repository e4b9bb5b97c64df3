"""Things of one name are told apart by the folders around them."""

from pathlib import Path

from explorer.core.unique_names import unique_names


def test_only_what_is_called_alike_gets_more_than_its_own_name():
    places = ["models/sdxl/benign", "models/sdxl/dirty-004", "models/sd3/benign", "old/sd3/benign"]
    assert unique_names([Path(place) for place in places]) == ["sdxl-benign", "dirty-004", "sd3-benign", "sd3-benign-2"]
    assert unique_names([Path("a/b\ud800")]) == ["b\\ud800"], "a name that tables can hold"
