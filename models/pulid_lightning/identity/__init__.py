"""Who is in a photo: face detection, alignment, EVA-CLIP, BiSeNet and the ID encoder, to the tokens that PuLID adds."""
