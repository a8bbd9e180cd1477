"""
Rounding to any format, as arithmetic on values of a program.

The encoders of dialects/formats, the same operations in the same order, for targets whose kernels
round: scales.py from the extent of a block to its factors, elements.py from a scaled number to its
value or code, blocks.py the two together.
"""
