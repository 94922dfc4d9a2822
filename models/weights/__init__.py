"""Weight files on disk: which are published, which are installed, and where a loader finds them.

The shipped lock (`lock`) lists what can be fetched; the command in `cli.weights` fetches it. The record of a weights
folder (`installed`) lists what is there, and is all that a worker goes by.
"""
