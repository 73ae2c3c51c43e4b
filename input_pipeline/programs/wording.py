"""Words of messages that depend on numbers."""

from collections.abc import Mapping


def counted(count: int, noun: str) -> str:
    """Returns a number with its noun, such as "1 line", "3 lines" or "2 batches"."""
    if count == 1:
        return f"{count} {noun}"
    return f"{count} {noun}{'es' if noun.endswith(('s', 'x', 'ch', 'sh')) else 's'}"


def frequent_first(counts: Mapping[str, int]) -> dict[str, int]:
    """Orders counts of reasons: the most frequent first, then by name."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def in_words(counts: Mapping[str, int]) -> str:
    """Formats counts of reasons, such as "2 empty file, 1 corrupt"."""
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())
