"""The model of paper 3.1: image encoder, text encoder, cross-modal encoder, heads, momentum copy, queues, checkpoints."""
