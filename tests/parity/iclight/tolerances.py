"""What the golden set's README allows, by stage, in float32 on the CPU.

Stages given golden inputs have tighter bounds than whole runs, in which a picture is rounded to 8 bit between the
passes: there one level that falls the other way grows.
"""

from __future__ import annotations

from typing import Final

RANDOM: Final = 1e-6
"""First values and sum of a draw of random numbers."""
SIGMAS: Final = 1e-6
NORMALISED: Final = 1e-6
ALPHA: Final = 1e-5
TEXT: Final = 5e-5
ENCODED: Final = 1e-4
DENOISED: Final = 1e-3
LEVEL: Final = 1.0
"""One level of 255."""
DECODED_SHARE: Final = 1e-3
"""Part of the first pass's decoded values that may be a level off."""
WHOLE_LATENTS: Final = 2e-2
WHOLE_LEVELS: Final = 4.0
WHOLE_MEAN_LEVELS: Final = 0.05

BY_EFFECT: Final = {
    "alpha": ALPHA,
    "fg_gray_u8": LEVEL,
    "cond": TEXT,
    "p1.concat_conds": ENCODED,
    "p1.unet_in0": DENOISED,
    "p1.latents": DENOISED,
    "p2.latents": WHOLE_LATENTS,
    "final_u8": WHOLE_LEVELS,
    "final_u8_mean_abs": WHOLE_MEAN_LEVELS,
}
"""The same under the names by which `unit/sensitivity.json` lists what a wrong detail changes."""
