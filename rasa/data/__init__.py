"""Captions, images, identities: readers of the published layouts, pairs, tokens, transforms, the built-in benchmark."""
