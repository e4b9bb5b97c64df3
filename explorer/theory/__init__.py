"""Pure tensor mathematics: Alignment Difficulty, its growth, attention statistics, intervals."""
