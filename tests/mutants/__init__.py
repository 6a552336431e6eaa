"""Deliberate mistakes in the recipe, and the tests that notice them: `make mutants`."""
