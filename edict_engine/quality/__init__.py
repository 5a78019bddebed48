"""How well samplers keep and change images, on any images: the paper's comparison.

================  =================================================================
``measures``      how far apart two images are: MSE, PSNR, SSIM, LPIPS, structure
``words``         whether an edit did what the words of its prompt say
``similarity``    CLIP similarity of an image and a prompt, with local weights
``comparison``    the methods, and what each does to given images
``records``       what was measured of an image, and the mean over images
``rate``          successes of trials, with how sure one can be of them
================  =================================================================
"""
