"""Where a user's pairs come from: one file a kind of source."""
