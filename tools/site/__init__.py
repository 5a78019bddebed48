"""What the documentation's site holds beside the files of docs/: see `mkdocs.yml`."""
