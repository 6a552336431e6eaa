"""The model of paper 3.1: image, text and cross-modal encoder, heads, momentum copy, queues, checkpoints."""
