"""Published results beside predictions: `cim validate` (docs/validation.md)."""
