"""Where measurements are kept (docs/tuning-database.md)."""

from .database import Database, open_store
from .journal import Entry
from .store import Collection, Found, Lookup, Store, best_of, entries_of

__all__ = [
    "Collection",
    "Database",
    "Entry",
    "Found",
    "Lookup",
    "Store",
    "best_of",
    "entries_of",
    "open_store",
]
