"""Schedules of CPU kernels: plain records, as they stand in the IR, and defaults for shapes."""
