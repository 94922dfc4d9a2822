"""Demo weights in the real files' formats, roles and keys, so that everything runs before real ones are fetched.

They are small networks, built from the files in `trained`, which `training` made; until those of pulid-lightning are
there, random ones take their place, and portraits are noise. What it knows of a face is not trained: the networks that
look at it are written down, and pass on what `face_code` says.
"""
