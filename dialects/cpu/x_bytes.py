"""
How many bytes stand for a value of fp32 x where few rows of it meet integer weights.

    qcc.linear %x, %w {x_bytes = 2}

With 2, blocks of x take two bytes where what that moves them by is less than what additions in
fp32 may err by: codegen/cpu/split_rows.py has the bound. With 3, and without the attribute, all
take three, which is as exact as additions in fp32 usually are.
"""

X_BYTES_ATTRIBUTE = "x_bytes"
FEWEST, MOST = 2, 3
