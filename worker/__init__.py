"""Everything that does work: device pinning, claim, fetch, compute, upload, finish.

`main` supervises one process for each device; `process` is such a process; `tasks` is what Celery
calls; `shard` runs the jobs of one message; `leases` keeps what is claimed; `failures` says what an
error means for a job.
"""
