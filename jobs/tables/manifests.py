"""What was read of manifests and of their images."""

from sqlalchemy import Column, ForeignKey, Integer, String, Table, Text, Uuid

from jobs.tables.base import metadata

bulk_chunks = Table(
    "bulk_chunks",
    metadata,
    Column("batch_id", Uuid, ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True),
    # Of a piece of a manifest, its images and its options; written with the jobs made of it.
    Column("digest", String(64), primary_key=True),
    # How many jobs the batch gained by it.
    Column("added", Integer, nullable=False),
)

known_sources = Table(
    "known_sources",
    metadata,
    # SHA-256 of where the image lies: addresses are too long for an index.
    Column("place_digest", String(64), primary_key=True),
    # What the place said of its content: an ETag, or a file's size and time.
    Column("mark", String(200), nullable=False),
    Column("uri", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
)
