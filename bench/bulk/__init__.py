"""What manifests cost: see ``__main__``."""
