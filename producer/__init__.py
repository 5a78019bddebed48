"""Everything that creates and follows work: the Python client, the command line, the demo.

Nothing here knows of torch: tasks are sent by name, and results are read from SQL and the bucket.
"""
