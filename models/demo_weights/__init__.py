"""Demo weights in the real files' formats, roles and keys, so that everything runs before real ones are fetched.

Those of ic-light are small networks trained on a handful of pictures, for demonstration only. Those of pulid-lightning
are random stand-ins, built on this machine: its pictures are noise.
"""
