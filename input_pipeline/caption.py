"""Names of files and classes as captions in matplotlib figures."""

_LONGEST = 80  # characters; of a longer name, only the beginning and the end are shown


def as_caption(name: str) -> str:
    """Shortens a name to fit, and escapes it so that matplotlib does not read it as math."""
    if len(name) > _LONGEST:
        half = _LONGEST // 2 - 1
        name = f"{name[:half]}...{name[-half:]}"
    return name.replace("$", r"\$")
