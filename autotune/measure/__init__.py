"""Trying configs: built in a pool, run in a worker that may crash or hang, compared in turns."""
