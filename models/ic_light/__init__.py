"""IC-Light (foreground-conditioned) on Stable Diffusion 1.5: a subject and a prompt give a relit picture."""
