"""The steps of a study, one file each, and the list of them."""
