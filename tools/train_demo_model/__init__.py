"""Train the small demonstration model from folders of photographs.

`python -m tools.train_demo_model all --help` tells how. Stages, each of which can be killed at
any moment and goes on where it stopped: `data` makes pictures with captions, `vae` trains the
autoencoder, `diffusion` the denoiser with its text encoder, `export` writes the finished folder,
`evaluate` measures it on photographs it never saw and writes the model card.

Invariant: nothing under this package ever writes a training photograph, or a picture that shows
one, outside the working folder that the user names.
"""
