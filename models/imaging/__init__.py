"""Encoded pictures of strangers: taken apart, decoded within bounds, brought to sRGB. Free of torch."""
