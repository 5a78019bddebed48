"""Everything that may break is broken here, under load, and no job may be lost or done twice.

`deployment` is what is broken: real servers, a control process and worker processes in a folder.
`faults` are the ways to break it, `workload` the jobs and the pixels that must come of them,
`audit` a trigger that writes down every change of a row, and `expectations` what must hold after.
`soak` runs all of it at once for thousands of jobs.
"""
