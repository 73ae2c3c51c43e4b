"""Names of files and classes as captions of pictures, whatever they are."""

_LONGEST = 80  # letters; of a longer one, the beginning and the end are shown


def as_caption(name: str) -> str:
    """A name as matplotlib shows it: no longer than there is room for, and never as mathematics."""
    if len(name) > _LONGEST:
        half = _LONGEST // 2 - 1
        name = f"{name[:half]}...{name[-half:]}"
    return name.replace("$", r"\$")
