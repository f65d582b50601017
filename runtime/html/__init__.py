"""A report as one HTML page that needs nothing else: no network, no other file (docs/report.md)."""

from .page import page

__all__ = ["page"]
