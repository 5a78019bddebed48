"""Tools that are run from the source tree; no part of the installed packages."""
