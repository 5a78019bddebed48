"""The demo: bundled photographs through the whole pipeline on this machine, to a gallery.

`manifest.jsonl` says which image is edited how, `SOURCES.md` where the images come from and under
which licence.
"""
