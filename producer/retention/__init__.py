"""Deleting what nobody is to keep: from policies to rows to the bucket, and never the other way."""

from producer.retention.plan import plan
from producer.retention.prune import Pruned, Pruner

__all__ = ["Pruned", "Pruner", "plan"]
