"""A gallery of results: one HTML file that needs nothing else, and asks nobody for anything."""

from producer.gallery.build import SMALL, WHOLE, Credit, Summary, write_gallery

__all__ = ["SMALL", "WHOLE", "Credit", "Summary", "write_gallery"]
