from __future__ import annotations
def convert_dequantize(site, op): raise NotImplementedError
