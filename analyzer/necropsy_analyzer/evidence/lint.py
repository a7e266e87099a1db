"""What a rule's regular expression must be, so that every engine gives the same answer fast.

In: a pattern. Out: what is wrong with it, in words for its author. Hyperscan scans many lines at once and
RE2 one by one, both byte by byte; Python's `re` reads the captures. They agree on a common dialect only: no
lookaround and back references (neither automaton has them), nothing that can match a newline (a match would
reach into the next message), and a literal in every alternative (what cannot begin with a fast literal
search makes the whole set slow).
"""

import re
import re._constants as code  # type: ignore[import-not-found]  # typeshed has no stub of the parser
import re._parser as parser  # type: ignore[import-not-found]
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, Final

from necropsy_analyzer.evidence.anchors import anchors, begins_anywhere, scanned, worth

LITERAL_CHARACTERS: Final = 4
"""How long a literal every match must hold."""

PATTERN_CHARACTERS: Final = 2000
_REPEAT_LIMIT: Final = 1000  # RE2's own (re2/parse.cc, kMaxRepeat)
_NEWLINE: Final = 10
_FORBIDDEN: Final = {
    code.ASSERT: "lookahead and lookbehind are known to none of the scanners",
    code.ASSERT_NOT: "lookahead and lookbehind are known to none of the scanners",
    code.GROUPREF: "a back reference is known to none of the scanners",
    code.GROUPREF_EXISTS: "a conditional group is known to none of the scanners",
    code.ATOMIC_GROUP: "an atomic group is not known to RE2",
    code.POSSESSIVE_REPEAT: "a possessive repeat is not known to RE2",
}
_REPEATS: Final = (code.MAX_REPEAT, code.MIN_REPEAT)


def lint(pattern: str) -> list[str]:
    """Give every complaint about a pattern; none means that all engines take it and agree on it."""
    if not pattern.isascii() or not pattern.isprintable():
        return ["only printable ASCII: the kernel's own words are, and engines differ on the rest"]
    if len(pattern) > PATTERN_CHARACTERS:
        return [f"longer than {PATTERN_CHARACTERS} characters: make it several patterns"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tree = parser.parse(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return [f"not a regular expression: {error}"]
    except (FutureWarning, DeprecationWarning) as warning:
        return [f"engines read this differently: {warning}"]
    if tree.state.flags & ~re.UNICODE:
        return ["no inline flags: case matters, and lines are looked at one by one"]
    complaints = list(dict.fromkeys(_dialect(tree, repeated=False)))
    if min(map(worth, anchors(pattern))) < LITERAL_CHARACTERS:
        complaints.append(
            f"no literal of {LITERAL_CHARACTERS} characters or more in every alternative: add words"
        )
    elif begins_anywhere(pattern) and scanned(pattern) is None:
        complaints.append(
            "begins with something variable and has no rare words in every alternative, which makes all "
            "rules slow: begin with a word, or give each alternative ten characters (or several patterns)"
        )
    items = list(tree)
    if items and _anything(items[0]):
        complaints.append("begins with something that matches anything: leave it off")
    if items and _anything(items[-1]):
        complaints.append("ends with something that matches anything: leave it off")
    return complaints


def groups(pattern: str) -> set[str]:
    """Give the names of a pattern's captures."""
    return set(parser.parse(pattern).state.groupdict)


def _dialect(tree: Iterable[tuple[Any, Any]], *, repeated: bool) -> Iterator[str]:
    for operation, argument in tree:
        if operation in _FORBIDDEN:
            yield _FORBIDDEN[operation]
        elif operation is code.AT:
            if argument in (code.AT_BEGINNING_STRING, code.AT_END_STRING):
                yield r"\A and \Z: use ^ and $, a message is one line"
        elif operation in _REPEATS:
            low, high, content = argument
            if low > _REPEAT_LIMIT or (high is not parser.MAXREPEAT and high > _REPEAT_LIMIT):
                yield f"repeats more than {_REPEAT_LIMIT} times: RE2 refuses that"
            endless = high is parser.MAXREPEAT
            if endless and repeated:
                yield "an endless repeat inside another takes exponential time in Python's re"
            yield from _dialect(content, repeated=repeated or endless)
        elif operation is code.SUBPATTERN:
            _, add, remove, content = argument
            if add or remove:
                yield "no inline flags: case matters, and lines are looked at one by one"
            yield from _dialect(content, repeated=repeated)
        elif operation is code.BRANCH:
            for branch in argument[1]:
                yield from _dialect(branch, repeated=repeated)
        elif _eats_newline(operation, argument):
            yield r"can match a newline: write [^\n…] for a negated class and for \W and \D, a space for \s"


def _eats_newline(operation: Any, argument: Any) -> bool:
    if operation is code.LITERAL:
        return bool(argument == _NEWLINE)
    if operation is code.NOT_LITERAL:
        return bool(argument != _NEWLINE)
    if operation is code.IN:
        negated = argument[0][0] is code.NEGATE
        members = argument[1:] if negated else argument
        if any(op is code.CATEGORY and _matches_newline(arg) for op, arg in members) and not negated:
            return True
        holds = any(
            (op is code.LITERAL and arg == _NEWLINE)
            or (op is code.RANGE and arg[0] <= _NEWLINE <= arg[1])
            or (op is code.CATEGORY and _matches_newline(arg))
            for op, arg in members
        )
        return holds != negated
    return False


def _matches_newline(category: Any) -> bool:
    return category in (code.CATEGORY_SPACE, code.CATEGORY_NOT_DIGIT, code.CATEGORY_NOT_WORD)


def _anything(item: tuple[Any, Any]) -> bool:
    """Say whether a piece of a pattern matches anything at all, the empty text too."""
    operation, argument = item
    if operation not in _REPEATS:
        return False
    low, _, content = argument
    return bool(low == 0 and len(content) == 1 and content[0][0] is code.ANY)
