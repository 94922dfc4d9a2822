"""The image models: parameters and pictures in, pictures out.

Knows nothing of HTTP, Redis or the lifetime of files. `models.catalog` lists what there is; importing it, the
`params` modules, `models.errors` or `models.imaging.decode` does not load torch.
"""
