"""The engine's figures on a GPU: ``python -m bench.gpu``."""
