"""Sending webhooks: signed, retried, and never to an address that only we can reach.

`post` makes one request to an address that was checked; `signing` signs it; `sender` takes what is
due from SQL and writes down what became of it.
"""
