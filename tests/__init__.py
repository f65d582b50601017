"""The tests. A package, so that helpers are imported by full name (`from tests.house.source import files`)."""
