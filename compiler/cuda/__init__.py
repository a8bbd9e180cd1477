"""Target cuda of the compiler: building, packing into artifacts, running, reporting."""
