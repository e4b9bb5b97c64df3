"""Defence: which pairs a filter removes, what that costs, and what it leaves."""
