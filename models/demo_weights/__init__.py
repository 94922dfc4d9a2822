"""Demo weights in the real files' formats, roles and keys, so that everything runs before real ones are fetched.

All are random stand-ins, built on this machine: their pictures are noise. `training` makes networks for ic-light that
relight, whose files will take the place of its stand-ins.
"""
