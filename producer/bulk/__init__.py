"""Manifests of any length: read as a stream, checked whole, submitted in chunks.

    manifest row ──reading──► RawRow ──mapping──► Wish ──sources, building──► specs ──► the store

Invariant: nothing here holds more than a chunk of the manifest in memory, and a chunk is committed
together with its marker (`jobs.store.bulk`), so that any interruption is made good by the same
command again.
"""

from producer.bulk.mapping import Plan
from producer.bulk.reading import Manifest, open_manifest
from producer.bulk.run import BulkOptions, Report, run_bulk
from producer.bulk.template import Template

__all__ = ["BulkOptions", "Manifest", "Plan", "Report", "Template", "open_manifest", "run_bulk"]
