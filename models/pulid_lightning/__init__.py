"""PuLID v1 on SDXL-Lightning checkpoints: a face and a prompt give portraits that keep the identity."""
