"""The HTTP API: a thin door to `producer.client`, for programs that are not Python.

A request passes `headers` (security headers, and what becomes of errors), `bodies` (limits),
`access` (keys), `idempotency` (repetitions) and then a route. Needs the `serve` extra.
"""
