"""Everything that does work: device pinning, claim, fetch, compute, upload, finish.

`main` supervises one process for each device; `process` is such a process; `shard` runs the jobs of
one message: `noise` finds or makes an image's inversion, `perform` does what a job wants with it;
`leases` keeps what is claimed; `failures` says what an error means for a job.
"""
