"""The engine's figures: ``python -m bench.engine``."""
