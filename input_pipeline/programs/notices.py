"""Lines that a process prints once, however often their cause comes up."""

_said: set[str] = set()


def say_once(text: str) -> None:
    """Prints a line to stdout, unless this process has printed the same line this way before."""
    if text not in _said:
        _said.add(text)
        print(text, flush=True)
