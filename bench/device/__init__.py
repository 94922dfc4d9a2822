"""Requests and stages timed on a device, against baselines."""
