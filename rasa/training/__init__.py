"""One run, from batches to selected weights: the recipe, one step's losses, and what they are made of."""
