"""Rules for the values of single fields of a config, and limits that several fields share."""

import math
import numbers
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Rule(NamedTuple):
    """A condition on the value of a field.

    Attributes:
        allowed: The condition in words, for the error message.
        holds: Returns whether a value, of any type, meets the condition.
    """

    allowed: str
    holds: Callable[[Any], bool]


def whole(low: int, high: int) -> Rule:
    """Allows integers from `low` to `high`."""
    return Rule(
        f"a whole number from {low:,} to {high:,}",
        lambda x: isinstance(x, numbers.Integral) and not isinstance(x, bool) and low <= x <= high,
    )


def number(low: float, high: float) -> Rule:
    """Allows numbers from `low` to `high`, but neither infinity nor NaN."""
    return Rule(f"a number from {low:,} to {high:,}", lambda x: _is_number(x) and low <= x <= high)


def above(low: float, high: float) -> Rule:
    """Allows numbers above `low`, also when rounded to float32, and at most `high`."""
    return Rule(
        f"a number above {low:,}, at most {high:,}",
        lambda x: _is_number(x) and x <= high and low < np.float32(x),
    )


def below(high: float) -> Rule:
    """Allows numbers from 0 to less than `high`, also when rounded to float32."""
    return Rule(
        f"a number from 0 to less than {high:,}",
        lambda x: _is_number(x) and 0 <= x < high and np.float32(x) < high,
    )


def each(*rules: Rule) -> Rule:
    """Allows tuples with one value for each of the rules."""
    words = [rule.allowed for rule in rules]
    allowed = f"each {words[0]}" if len(set(words)) == 1 else "; ".join(words)
    return Rule(
        f"{len(rules)} values, {allowed}",
        lambda x: (
            isinstance(x, tuple)
            and len(x) == len(rules)
            and all(rule.holds(value) for rule, value in zip(rules, x, strict=True))
        ),
    )


def some(rule: Rule) -> Rule:
    """Allows tuples of one value or more, each by the rule."""
    return Rule(
        f"one value or more, each {rule.allowed}",
        lambda x: isinstance(x, tuple) and len(x) > 0 and all(map(rule.holds, x)),
    )


def any_number(rule: Rule) -> Rule:
    """Allows tuples of any number of values, also none, each by the rule."""
    return Rule(
        f"(), or values, each {rule.allowed}",
        lambda x: isinstance(x, tuple) and all(map(rule.holds, x)),
    )


def interval(rule: Rule) -> Rule:
    """Allows tuples (low, high) with low <= high, each by the rule."""
    pair = each(rule, rule)
    return Rule(
        f"a pair, low <= high, each {rule.allowed}", lambda x: pair.holds(x) and x[0] <= x[1]
    )


def one_of(*names: str) -> Rule:
    """Allows one of some words."""
    return Rule(", ".join(map(repr, names)), lambda x: isinstance(x, str) and x in names)


def some_of(*names: str) -> Rule:
    """Allows tuples of one or more distinct words out of some."""
    return Rule(
        f"one or more distinct names out of {', '.join(map(repr, names))}",
        lambda x: isinstance(x, tuple) and 0 < len(x) == len(set(x)) and set(x) <= {*names},
    )


def names(*examples: str) -> Rule:
    """Allows tuples of any number of words, also none.

    Args:
        *examples: Words for the error message.
    """
    return Rule(
        f"(), or names such as {examples}",
        lambda x: isinstance(x, tuple) and all(isinstance(name, str) and name for name in x),
    )


def any_of(*names: str) -> Rule:
    """Allows tuples of distinct words out of some, and the empty one."""
    some = some_of(*names)
    return Rule(f"() or {some.allowed}", lambda x: x == () or some.holds(x))


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and not math.isnan(value)


TEXT = Rule("text", lambda x: isinstance(x, str))
SWITCH = Rule("True or False", lambda x: isinstance(x, bool))
SHARE = number(0, 1)

# Upper limits for fields that have no natural one. They refuse values that can only be typing
# errors, and that would exhaust memory or threads.
STEPS = 2**31 - 1  # the state counts steps in an int32
SEED = 2**32 - 1  # the state holds the seed as a uint32
EPOCHS = 1_000_000
PIXELS = 8192
FRAMES = 65_536
WEIGHT = 1_000_000
