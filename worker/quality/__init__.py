"""Samplers compared on a user's own images, at the command line: `python -m worker.quality`."""
