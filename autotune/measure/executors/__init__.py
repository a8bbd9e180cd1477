"""Where candidates are tried: here, on any host that shares a folder, or through Ray."""
