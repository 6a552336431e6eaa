"""Weights on disk: our own folders, the published files and their key names, the start that ships with the package."""
