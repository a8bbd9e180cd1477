"""Where candidates are tried: here, or on any host that shares a folder."""
