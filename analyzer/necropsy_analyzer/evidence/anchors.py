"""The words by which a pattern is found fast. In: a pattern. Out: literals, one of which every match holds.

A scanner finds thousands of literals as fast as it reads; what costs is a pattern that may begin anywhere,
such as `\\S+: .*words`. Such a one is looked for by its words, and only the lines that have them are asked
the whole question. (RE2 does the same in re2/prefilter.cc; this is its exact set and its best set, without
case folding.)
"""

import re
import re._constants as code  # type: ignore[import-not-found]  # typeshed has no stub of the parser
import re._parser as parser  # type: ignore[import-not-found]
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

Tree = Sequence[tuple[Any, Any]]

_LITERALS: Final = 16
"""So many literals a pattern may be looked for by; more of them are no longer faster."""

_ENOUGH: Final = 14
"""Characters beyond which a longer literal finds no less that is not meant."""

_TELLING: Final = 10
_WORDS_MEET: Final = re.compile(r"[0-9A-Za-z][^0-9A-Za-z]+[0-9A-Za-z]{2}")

_CLASS: Final = 4
_REPEATS: Final = (code.MAX_REPEAT, code.MIN_REPEAT)


@lru_cache(maxsize=4096)
def anchors(pattern: str) -> frozenset[str]:
    """Give literals of which every match of the pattern holds one; of several such sets the most telling.

    The most telling set has the longest shortest literal, and few. It holds the empty text where there is
    none. Raises re.error where the pattern is none.
    """
    return _best(parser.parse(pattern), frozenset({""}))


def scanned(pattern: str) -> str | None:
    """Give the literals that find a pattern's lines, as alternatives; None where they find too much else.

    Scanners look at the last few characters of a literal first. A word's end is the end of many words;
    where one word ends and the next begins is seldom alike, so a literal is cut there.
    """
    literals = anchors(pattern)
    if min(map(worth, literals)) < _TELLING:
        return None
    return "|".join(sorted({re.escape(_cut(literal)) for literal in literals}))


def begins_anywhere(pattern: str) -> bool:
    """Say whether a pattern can begin at almost any character, as `\\S+` and `[0-9a-f]{4}` do."""
    return _is_open(parser.parse(pattern))


def _is_open(tree: Iterable[tuple[Any, Any]]) -> bool:
    for operation, argument in _ungrouped(tree):
        if operation is code.AT:
            continue
        if operation is code.BRANCH:
            return any(_is_open(branch) for branch in argument[1])
        if operation in _REPEATS:
            return _is_open(argument[2])
        return operation is not code.LITERAL and _exact(operation, argument) is None
    return False


def _cut(literal: str) -> str:
    ends = [found.end() for found in _WORDS_MEET.finditer(literal) if found.end() >= _TELLING]
    return literal[: ends[-1]] if ends else literal


def _best(tree: Iterable[tuple[Any, Any]], before: frozenset[str]) -> frozenset[str]:
    """Give the most telling set of a sequence that comes after the texts `before`."""
    found: list[frozenset[str]] = []
    current = before
    for operation, argument in _ungrouped(tree):
        exact = _exact(operation, argument)
        if exact is not None and len(current) * len(exact) <= _LITERALS:
            current = frozenset(begin + end for begin in current for end in exact)
            continue
        if operation is code.BRANCH:
            within = frozenset().union(*(_best(branch, current) for branch in argument[1]))
            if len(within) <= _LITERALS:
                found.append(within)
        elif operation in _REPEATS and argument[0] > 0:
            found.append(_best(argument[2], frozenset({""})))
        found.append(current)
        current = frozenset({""}) if exact is None else exact
    found.append(current)
    return max(found, key=_worth)


def _worth(literals: frozenset[str]) -> tuple[int, int, int]:
    shortest = min(map(worth, literals))
    return min(shortest, _ENOUGH), -len(literals), shortest


def worth(literal: str) -> int:
    """Give a literal's length; nothing for mere blanks and signs, which every line has."""
    return len(literal) if sum(map(str.isalnum, literal)) >= 2 else 0


def _exact(operation: Any, argument: Any) -> frozenset[str] | None:
    """Give all texts that a piece matches; None where there are many."""
    if operation is code.LITERAL:
        return frozenset({chr(argument)})
    if operation is code.AT:
        return frozenset({""})
    if operation is code.IN:
        if all(op is code.LITERAL for op, _ in argument) and len(argument) <= _CLASS:
            return frozenset(chr(value) for _, value in argument)
        return None
    if operation is code.BRANCH:
        return _all([_sequence(branch) for branch in argument[1]])
    if operation in _REPEATS:
        low, high, content = argument
        within = _sequence(content)
        if high is parser.MAXREPEAT or high > 1 or within is None:
            return None
        return within if low == 1 else within | {""}
    return None


def _sequence(tree: Iterable[tuple[Any, Any]]) -> frozenset[str] | None:
    texts = frozenset({""})
    for operation, argument in _ungrouped(tree):
        exact = _exact(operation, argument)
        if exact is None or len(texts) * len(exact) > _LITERALS:
            return None
        texts = frozenset(begin + end for begin in texts for end in exact)
    return texts


def _all(sets: list[frozenset[str] | None]) -> frozenset[str] | None:
    whole: frozenset[str] = frozenset()
    for texts in sets:
        if texts is None:
            return None
        whole |= texts
    return whole if len(whole) <= _LITERALS else None


def _ungrouped(tree: Iterable[tuple[Any, Any]]) -> Iterable[tuple[Any, Any]]:
    for operation, argument in tree:
        if operation is code.SUBPATTERN:
            yield from _ungrouped(argument[3])
        else:
            yield operation, argument
