"""Results of a batch into the shapes that training code reads, as a stream of parts.

Invariant: a part appears whole or not at all, and the state file names it afterwards. Whatever
interrupts an export, the same command again keeps the parts that are complete.
"""

from jobs.gates import Condition
from producer.export.formats import FORMATS
from producer.export.run import ExportReport, Flagged, run_export
from producer.export.targets import open_target

__all__ = ["FORMATS", "Condition", "ExportReport", "Flagged", "open_target", "run_export"]
