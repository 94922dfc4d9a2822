"""Evaluating Stable Diffusion's UNets; what stays the same over the steps of a request is computed before them."""
