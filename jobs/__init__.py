"""The contract that producers and workers meet at.

Specs say what to do, tables hold what is true, messages only say that there may be work. Nothing
here knows of torch, of the command line or of devices.
"""
