"""CUDA: emitted kernels, the device header they include, its emulator and the tool chain."""
