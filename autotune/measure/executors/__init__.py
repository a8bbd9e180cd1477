"""Where candidates are tried: here, on any host that shares a folder, or on a Ray cluster."""
