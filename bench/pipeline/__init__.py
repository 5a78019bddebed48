"""The pipeline's figures: ``python -m bench.pipeline``."""
