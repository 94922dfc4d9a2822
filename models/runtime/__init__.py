"""How functions of a network are run on a device: as they are, compiled, or replayed as CUDA graphs."""
