"""How well a model finds people: two-stage retrieval (projected features, then match scores), its figures, the word probe."""
