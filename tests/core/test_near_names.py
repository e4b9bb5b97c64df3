from explorer.core.near_names import expected_names, nearest_names

MANY = ["hat", "hut", "boat", "fire truck", "ship", *(f"noun number {number}" for number in range(100, 120))]


def test_all_names_are_told_where_they_are_few_and_those_that_may_be_meant_where_they_are_many():
    assert expected_names("unicorn", ["hat", "ship"]) == "one of hat, ship"
    assert expected_names("Hot", MANY) == "one of 25, perhaps hat, hut, boat"
    assert expected_names("unicorn", MANY) == "one of 25: hat, hut, boat, ..."


def test_a_name_may_have_two_wrong_letters_and_no_more_than_half():
    assert nearest_names("firetruk", MANY) == ["fire truck"]
    assert nearest_names("fretruk", MANY) == []
    assert nearest_names("ox", ["cow", "ax"]) == ["ax"]
