"""Target upmem of the compiler: building, packing into artifacts, running, reporting."""
