"""Real servers from wheels, for a laptop, the demo and the tests: nothing to install or configure.

They are started and stopped here and reached like any other: through the URLs in the settings.
"""
