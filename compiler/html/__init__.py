"""The report of an artifact as one HTML page."""
