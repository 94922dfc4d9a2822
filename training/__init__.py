"""Training of ic-light's demo weights: small networks that relight visibly, for demonstration only.

`python -m training` runs every stage in order and resumes from the checkpoints of an earlier run.
"""
