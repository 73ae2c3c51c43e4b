"""Words of messages that depend on numbers."""


def counted(count: int, noun: str) -> str:
    """Returns a number with its noun, such as "1 line", "3 lines" or "2 batches"."""
    if count == 1:
        return f"{count} {noun}"
    return f"{count} {noun}{'es' if noun.endswith(('s', 'x', 'ch', 'sh')) else 's'}"
