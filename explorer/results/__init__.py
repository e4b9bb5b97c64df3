"""The paper's tables and figures, each beside what a study measured."""
