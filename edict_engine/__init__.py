"""Exact diffusion inversion (EDICT, arXiv 2211.12446) with integer latents.

The science of the project and nothing else: no jobs, no storage, no environment, no clock.
Importing this package is free; each module imports what it needs:

========================  ==========================================================
``editor``                invert, edit, reconstruct: what an application calls
``engine``                the device loop that batches many trajectories into one call
``samplers``              the mathematics of one trajectory, as coroutines
``model``                 a checkpoint of any family behind one small interface
``schedule``              noise levels, of diffusion; those of flow: ``flow_schedule``
``images``                untrusted bytes to clean RGB images, and back
``latent_file``           inversions as safetensors
``errors``                everything that can be raised on purpose
========================  ==========================================================

Symbols of the paper and their names in the code:

================  ==================  ================================================
paper             here                meaning
================  ==================  ================================================
alpha_t           alphas_cumprod[t]   share of signal left at timestep t
sqrt(alpha_t)     scale, a_t          a latent is a_t · z
(none)            z                   the latent in the chart where a DDIM step adds
x_t, y_t          LatentPair.x, .y    the coupled pair, as integers of z
p                 mix                 mixing weight (equations 14 and 15)
Θ(x, t, C)        Query → noise       the network's guided answer, ε
w                 guidance            classifier-free guidance scale
S                 steps               length of the full timestep grid
a_t, b_t          Step                x_next = a·x + b·ε, here z + delta·ε
================  ==================  ================================================
"""
