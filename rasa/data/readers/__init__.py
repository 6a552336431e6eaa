"""One module per published layout: from its annotation file to images, captions and identities."""
