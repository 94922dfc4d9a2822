"""Evaluation of trained weights on held-out pictures."""
