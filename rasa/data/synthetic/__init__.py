"""The built-in benchmark: people drawn by chance, their images, and captions of what each image shows."""

from rasa.data.synthetic.write import VERSION, BenchmarkParams, captions_of, write_benchmark

__all__ = ["VERSION", "BenchmarkParams", "captions_of", "write_benchmark"]
