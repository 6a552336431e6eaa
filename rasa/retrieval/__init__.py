"""Two-stage retrieval: similarity of projected features, then the match score of the best candidates."""
