"""Untrusted encoded pictures: parsed, decoded within bounds, oriented and converted to sRGB. Free of torch."""
