"""Metrics for Prometheus: a registry per process, a port of its own, and what a worker counts."""
