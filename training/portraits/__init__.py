"""Portraits of faces: what the UNet and the text encoders of pulid-lightning's demo weights are trained on, and how."""
