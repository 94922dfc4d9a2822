"""Lowering for GPUs that are not there: what a worker compiles, down to their machine code, checked and counted."""
