"""Work that comes back: what fires when, on which images, exactly once."""
