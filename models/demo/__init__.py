"""Demo weights in the real files' formats, roles and keys, so that everything runs before real ones are fetched.

ic-light's are small trained networks, built from the files in `trained`, which `training` made; pulid-lightning's are
random stand-ins, and its pictures noise.
"""
