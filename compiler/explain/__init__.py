"""What `cim compile --explain` says: what a model needs, where it lies, why, what binds, what would help."""

from .note import Heading, Note

__all__ = ["Heading", "Note"]
