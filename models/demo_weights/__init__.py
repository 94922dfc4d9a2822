"""Demo weights: small random stand-ins in the real files' formats, roles and keys, built on this machine.

They prove that everything runs. Their pictures are noise.
"""
