"""The built-in benchmark: people drawn by chance, their images, and captions of what each image shows."""
