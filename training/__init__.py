"""Training of ic-light's demo weights: a few megabytes that relight visibly, for demonstration only.

`python -m training` runs every part in order and takes up where an earlier run stopped.
"""
