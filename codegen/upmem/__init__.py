"""UPMEM: kernels as C for DPUs, the host's side of them, and emulators that run both."""
