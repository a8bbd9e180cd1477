"""Spaces and results in the formats of other tuners (docs/tuning-database.md#other-tuners)."""

KINDS = ("qcc", "t4", "cache", "t1", "metaschedule")
"""What measurements can be written as; files.py says what each is."""
