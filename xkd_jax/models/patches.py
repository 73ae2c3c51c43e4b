"""Video and log-mels cut into patches and put together again.

Tokens and the values inside a patch are in the order in which the pixels lie: a video's tokens run
over (time, height, width) and a patch's values over (time, height, width, channel); a log-mel's
tokens run over (frequency, time), so do a patch's values. Every function takes NumPy and JAX arrays
alike and gives back the kind and the dtype that it got.
"""

import einops


def patchify_video(video, patch):
    """Cuts videos into cuboids.

    Args:
        video: `(B, T, H, W, C)`.
        patch: `(t, h, w)`, frames and pixels of one patch.

    Returns:
        `(B, T/t * H/h * W/w, t * h * w * C)`.

    Raises:
        ValueError: The patch does not divide the video.
    """
    _require_divisible(video.shape[1:4], patch, "video (time, height, width)")
    t, h, w = patch
    pattern = "b (nt t) (nh h) (nw w) c -> b (nt nh nw) (t h w c)"
    return einops.rearrange(video, pattern, t=t, h=h, w=w)


def unpatchify_video(patches, grid, patch):
    """Puts cuboids together: the inverse of `patchify_video`.

    Args:
        patches: `(B, nt * nh * nw, t * h * w * C)`.
        grid: `(nt, nh, nw)`, the number of patches along each axis.
        patch: `(t, h, w)`, frames and pixels of one patch.

    Returns:
        `(B, nt * t, nh * h, nw * w, C)`.
    """
    (nt, nh, nw), (t, h, w) = grid, patch
    pattern = "b (nt nh nw) (t h w c) -> b (nt t) (nh h) (nw w) c"
    return einops.rearrange(patches, pattern, nt=nt, nh=nh, nw=nw, t=t, h=h, w=w)


def patchify_audio(log_mel, patch):
    """Cuts log-mel spectrograms into tiles.

    Args:
        log_mel: `(B, F, T)`, mel bands by time steps.
        patch: `(f, t)`, mel bands and time steps of one patch.

    Returns:
        `(B, F/f * T/t, f * t)`, tokens frequency-major.

    Raises:
        ValueError: The patch does not divide the spectrogram.
    """
    _require_divisible(log_mel.shape[1:3], patch, "log-mel (frequency, time)")
    f, t = patch
    return einops.rearrange(log_mel, "b (nf f) (nt t) -> b (nf nt) (f t)", f=f, t=t)


def unpatchify_audio(patches, grid, patch):
    """Puts tiles together: the inverse of `patchify_audio`.

    Args:
        patches: `(B, nf * nt, f * t)`.
        grid: `(nf, nt)`, the number of patches along each axis.
        patch: `(f, t)`, mel bands and time steps of one patch.

    Returns:
        `(B, nf * f, nt * t)`.
    """
    (nf, nt), (f, t) = grid, patch
    pattern = "b (nf nt) (f t) -> b (nf f) (nt t)"
    return einops.rearrange(patches, pattern, nf=nf, nt=nt, f=f, t=t)


def normalize_patches(patches, eps=1e-6):
    """Gives each patch zero mean and unit variance (docs/method.md, section 3).

    The variance is the unbiased one and `eps` stands inside the root, as in masked autoencoders
    (He et al., arXiv 2111.06377). `normalized * std + mean` gives back the patches.

    Args:
        patches: `(..., P)` floating, `P` values a patch.
        eps: Added to the variance, in squared units of the patches.

    Returns:
        `(normalized, mean, std)` of shapes `(..., P)`, `(..., 1)`, `(..., 1)`.
    """
    mean = patches.mean(axis=-1, keepdims=True)
    std = (patches.var(axis=-1, ddof=1, keepdims=True) + eps) ** 0.5
    return (patches - mean) / std, mean, std


def _require_divisible(shape, patch, name):
    if len(shape) != len(patch) or any(n % p for n, p in zip(shape, patch, strict=True)):
        raise ValueError(f"patch {tuple(patch)} does not divide the {name} {tuple(shape)}")
