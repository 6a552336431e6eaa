"""How well a model finds people.

Two-stage retrieval (projected features, then match scores), its figures, and the word probe.
"""
