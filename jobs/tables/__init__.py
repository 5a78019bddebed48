"""The tables. SQL is the truth; everything else is a hint or a copy.

`migrations` brings a database to this shape, and a test compares the two.
"""

from jobs.tables.admitting import api_answers, api_keys, api_submissions, marks
from jobs.tables.base import UtcDateTime, metadata
from jobs.tables.manifests import bulk_chunks, known_sources
from jobs.tables.retaining import deletions, job_exports, retentions
from jobs.tables.scheduling import firings, schedule_items, schedules, turns
from jobs.tables.telling import webhook_deliveries, webhooks
from jobs.tables.work import batch_jobs, batch_tallies, batches, inversions, jobs, workers

__all__ = [
    "UtcDateTime",
    "api_answers",
    "api_keys",
    "api_submissions",
    "batch_jobs",
    "batch_tallies",
    "batches",
    "bulk_chunks",
    "deletions",
    "firings",
    "inversions",
    "job_exports",
    "jobs",
    "known_sources",
    "marks",
    "metadata",
    "retentions",
    "schedule_items",
    "schedules",
    "turns",
    "webhook_deliveries",
    "webhooks",
    "workers",
]
