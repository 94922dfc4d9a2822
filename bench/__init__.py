"""Measurements: `python -m bench.cpu`, `python -m bench.serving`, `python -m bench.gpu`; results in `bench/results`."""
