"""YAML of rules → checked entries. In: texts by file name. Out: entries, causes, complaints with places.

The format is told in rules/README.md. An entry with a complaint is not loaded; the others are.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
import yaml

from necropsy_analyzer.evidence.feature import Features, Mechanism
from necropsy_analyzer.evidence.lint import groups, lint
from necropsy_analyzer.evidence.rule import (
    CULPRIT_FIELDS,
    Action,
    Cause,
    Complaint,
    Entry,
    Example,
    ReportTest,
    Rule,
    Severity,
    Speaker,
    State,
)

WEIGHT_LIMIT: Final = 6.0
"""Log-odds beyond this claim that nothing else could ever be true."""

_REQUIRED: Final = ("id", "title", "origin", "supports", "examples", "counterexamples")
_ID: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_FAMILY: Final = re.compile(r"[a-z0-9]+(?:[-_][a-z0-9]+)*")
_T = TypeVar("_T")


class Vocabulary(msgspec.Struct, frozen=True):
    """The names that rules may use: causes and mechanisms."""

    causes: frozenset[str]
    mechanisms: frozenset[str]


class Loaded(msgspec.Struct, frozen=True):
    """The entries of a folder, and what was wrong with others."""

    entries: tuple[Entry, ...]
    complaints: tuple[Complaint, ...]


def load(texts: Mapping[str, str], known: Vocabulary) -> Loaded:
    """Read rule files; an id that stands twice is a complaint about the second."""
    entries: list[Entry] = []
    complaints: list[Complaint] = []
    places: dict[str, str] = {}
    for file in sorted(texts):
        family = file.rsplit("/", 1)[-1].removesuffix(".yaml")
        for item in _items(file, texts[file], complaints):
            reader = _Reader(file, item, known, family)
            entry = reader.entry()
            identity = reader.identity
            if identity is not None:
                place = f"{file}:{reader.line}"
                if identity in places:
                    reader.complain(reader.line, f"this id stands already at {places[identity]}")
                    entry = None
                places.setdefault(identity, place)
            complaints.extend(reader.complaints)
            if entry is not None and not reader.complaints:
                entries.append(entry)
    return Loaded(tuple(entries), tuple(complaints))


def layered(folders: Sequence[Loaded]) -> Loaded:
    """Lay later folders over earlier ones: a rule replaces the one that has its id.

    A shipped rule that is retired is not taken up again under its id: what it once said is on record.
    """
    entries: dict[str, Entry] = {}
    complaints: list[Complaint] = []
    for loaded in folders:
        complaints.extend(loaded.complaints)
        for entry in loaded.entries:
            old = entries.get(entry.rule.id)
            if old is not None and old.rule.state == "retired" and entry.rule.state != "retired":
                complaints.append(
                    Complaint(
                        file=entry.file,
                        line=entry.line,
                        message=f"this id was retired at {old.file}:{old.line}: choose another one",
                        rule=entry.rule.id,
                    )
                )
                continue
            entries[entry.rule.id] = entry
    return Loaded(tuple(entries.values()), tuple(complaints))


def load_causes(file: str, text: str) -> tuple[dict[str, Cause], tuple[Complaint, ...]]:
    """Read causes.yaml: a mapping from a cause to its description, prior and action."""
    complaints: list[Complaint] = []
    causes: dict[str, Cause] = {}
    for name, line, value in _mapping(file, text, complaints):
        try:
            cause = msgspec.convert(value, Cause, strict=True)
        except msgspec.ValidationError as error:
            complaints.append(Complaint(file=file, line=line, message=f"{name}: {error}"))
            continue
        if not 0 < cause.prior <= 1:
            complaints.append(
                Complaint(file=file, line=line, message=f"{name}: prior must be above 0, at most 1")
            )
            continue
        causes[name] = cause
    return causes, tuple(complaints)


def load_mechanisms(file: str, text: str) -> tuple[dict[str, Mechanism], tuple[Complaint, ...]]:
    """Read mechanisms.yaml: a mapping from a mechanism to what it is and what it says of the cause."""
    complaints: list[Complaint] = []
    mechanisms: dict[str, Mechanism] = {}
    for name, line, value in _mapping(file, text, complaints):
        try:
            mechanisms[name] = msgspec.convert(value, Mechanism, strict=True)
        except msgspec.ValidationError as error:
            complaints.append(Complaint(file=file, line=line, message=f"{name}: {_reason(error)}"))
    return mechanisms, tuple(complaints)


def load_features(file: str, text: str, modules: str = "") -> tuple[Features | None, tuple[Complaint, ...]]:
    """Read features.yaml, and the kernel's own modules out of the text of tables/modules.yaml."""
    complaints: list[Complaint] = []
    parts = {name: value for name, _, value in _mapping(file, text, complaints)}
    for name, _, value in _mapping("tables/modules.yaml", modules, complaints):
        parts[name] = value.split() if isinstance(value, str) else value
    try:
        return msgspec.convert(parts, Features, strict=True), tuple(complaints)
    except msgspec.ValidationError as error:
        complaints.append(Complaint(file=file, line=0, message=_reason(error)))
        return None, tuple(complaints)


class _Reader:
    """Reads one entry; collects every complaint about it rather than the first."""

    def __init__(self, file: str, node: yaml.Node, known: Vocabulary, family: str) -> None:
        self.file = file
        self.line = node.start_mark.line + 1
        self.identity: str | None = None
        self.complaints: list[Complaint] = []
        self._node = node
        self._known = known
        self._family = family
        self._values: dict[str, Any] = {}
        self._lines: dict[str, int] = {}

    def complain(self, line: int, message: str) -> None:
        self.complaints.append(Complaint(file=self.file, line=line, message=message, rule=self.identity))

    def entry(self) -> Entry | None:
        if not isinstance(self._node, yaml.MappingNode):
            self.complain(self.line, "expected an entry with `id:`, `title:`, …")
            return None
        for key, node in _pairs(self._node, self.complain):
            self._values[key] = node
            self._lines[key] = node.start_mark.line + 1
        identity = self._take("id", str, "")
        if _ID.fullmatch(identity):
            self.identity = identity
        elif "id" in self._lines:
            self.complain(self._at("id"), "id: lower-case words joined with `-`")
        for key in _REQUIRED:
            if key not in self._lines:
                self.complain(self.line, f"`{key}` is missing")
        rule = Rule(
            id=identity,
            title=self._text("title"),
            family=self._taken_family(),
            state=self._take("state", State, "live"),
            patterns=self._patterns(),
            report=self._report(),
            mechanism=self._mechanism(),
            severity=self._take("severity", Severity, "info"),
            supports=self._supports(),
            culprit=self._take("culprit", dict[str, str], {}),
            action=self._take("action", Action | None, None),
            speaker=self._take("speaker", Speaker, "kernel"),
        )
        if ("match" in self._lines) == ("report" in self._lines):
            self.complain(self.line, "give `match` or `report`, one of them")
        entry = Entry(
            rule=rule,
            file=self.file,
            line=self.line,
            origin=self._text("origin"),
            references=self._take("references", tuple[str, ...], ()),
            gaps=self._take("gaps", str, ""),
            examples=self._examples("examples", ("text", "gives")),
            counterexamples=self._examples("counterexamples", ("text", "because")),
        )
        self._check_culprit(rule, entry)
        for key in self._values:
            self.complain(self._lines[key], f"unknown key `{key}`")
        return entry

    def _at(self, key: str) -> int:
        return self._lines.get(key, self.line)

    def _take(self, key: str, kind: Any, default: _T) -> _T:
        node = self._values.pop(key, None)
        if node is None:
            return default
        try:
            taken: _T = msgspec.convert(_plain(node, self.complain), kind, strict=True)
        except msgspec.ValidationError as error:
            self.complain(self._at(key), f"{key}: {_reason(error)}")
            return default
        return taken

    def _text(self, key: str) -> str:
        text = self._take(key, str, "")
        if key in self._lines and not text.strip():
            self.complain(self._at(key), f"{key}: says nothing")
        return text

    def _taken_family(self) -> str:
        family = self._take("family", str, self._family)
        if "family" in self._lines and not _FAMILY.fullmatch(family):
            self.complain(self._at("family"), "family: lower-case words joined with `-`")
        return family

    def _patterns(self) -> tuple[str, ...]:
        node = self._values.get("match")
        lines = [self._at("match")]
        if isinstance(node, yaml.SequenceNode):
            lines = [item.start_mark.line + 1 for item in node.value]
        patterns: str | tuple[str, ...] = self._take("match", str | tuple[str, ...], ())
        patterns = (patterns,) if isinstance(patterns, str) else patterns
        for number, pattern in enumerate(patterns):
            for complaint in lint(pattern):
                self.complain(lines[number], f"match: {complaint}")
            if pattern in patterns[:number]:
                self.complain(lines[number], "match: the same pattern twice")
        if "match" in self._lines and not patterns and not self.complaints:
            self.complain(self._at("match"), "match: no pattern")
        return patterns

    def _report(self) -> ReportTest | None:
        test = self._take("report", ReportTest | None, None)
        if test is None:
            return None
        if test == ReportTest(depth=test.depth):
            self.complain(self._at("report"), "report: asks for nothing")
        for mechanism in sorted(set(test.mechanism) - self._known.mechanisms):
            self.complain(self._at("report"), f"report: no such mechanism: {mechanism}")
        if test.depth < 0 or (test.depth and not (test.frames or test.not_frames or test.module)):
            self.complain(self._at("report"), "report: `depth` counts frames, for `frames` and `module`")
        for patterns in (test.frames, test.not_frames, test.module, test.process, test.culprit):
            if any(not pattern.strip("*?") for pattern in patterns):
                self.complain(self._at("report"), "report: a pattern that matches everything says nothing")
        if not set(test.context) <= {"task", "irq", "softirq", "nmi", "exception"}:
            self.complain(self._at("report"), "report: context is task, irq, softirq, nmi or exception")
        return test

    def _mechanism(self) -> str | None:
        mechanism = self._take("mechanism", str | None, None)
        if mechanism is not None and mechanism not in self._known.mechanisms:
            self.complain(self._at("mechanism"), f"no such mechanism: {mechanism}")
        return mechanism

    def _supports(self) -> dict[str, float]:
        supports: dict[str, float] = self._take("supports", dict[str, float], {})
        for cause, weight in supports.items():
            if cause not in self._known.causes:
                self.complain(self._at("supports"), f"supports: no such cause: {cause}")
            if not 0 < abs(weight) <= WEIGHT_LIMIT:
                self.complain(self._at("supports"), f"supports: {cause}: log-odds from -6 to 6, not 0")
        return supports

    def _examples(self, key: str, fields: tuple[str, str]) -> tuple[Example, ...]:
        node = self._values.pop(key, None)
        if node is None:
            return ()
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            self.complain(self._at(key), f"{key}: expected a list with one `text:` at least")
            return ()
        examples = []
        for item in node.value:
            line = item.start_mark.line + 1
            value = _plain(item, self.complain)
            if not isinstance(value, dict) or not set(value) <= set(fields):
                self.complain(line, f"{key}: expected `{fields[0]}:` and `{fields[1]}:`")
                continue
            try:
                example = msgspec.convert(value | {"line": line}, Example, strict=True)
            except msgspec.ValidationError as error:
                self.complain(line, f"{key}: {_reason(error)}")
                continue
            if not example.text.strip():
                self.complain(line, f"{key}: an empty text")
            if key == "counterexamples" and not example.because:
                self.complain(line, "counterexamples: `because:` is missing: say what the text is")
            examples.append(example)
        return tuple(examples)

    def _check_culprit(self, rule: Rule, entry: Entry) -> None:
        if any(complaint.message.startswith("match") for complaint in self.complaints):
            return
        captures = set().union(*(groups(pattern) for pattern in rule.patterns))
        for field, source in rule.culprit.items():
            if field not in CULPRIT_FIELDS:
                self.complain(self._at("culprit"), f"culprit: no such field: {field}")
            if not source.startswith("=") and source not in captures:
                self.complain(self._at("culprit"), f"culprit: no capture `{source}` in `match`")
        for example in entry.examples:
            for name in sorted(example.gives.keys() - captures):
                self.complain(example.line, f"examples: no capture `{name}` in `match`")


def _items(file: str, text: str, complaints: list[Complaint]) -> list[yaml.Node]:
    node = _composed(file, text, complaints)
    if node is None:
        return []
    if not isinstance(node, yaml.SequenceNode):
        line = node.start_mark.line + 1
        complaints.append(Complaint(file=file, line=line, message="expected a list of rules (`- id: …`)"))
        return []
    return list(node.value)


def _mapping(file: str, text: str, complaints: list[Complaint]) -> Iterator[tuple[str, int, Any]]:
    node = _composed(file, text, complaints)
    if node is None:
        return

    def complain(line: int, message: str) -> None:
        complaints.append(Complaint(file=file, line=line, message=message))

    if not isinstance(node, yaml.MappingNode):
        complain(node.start_mark.line + 1, "expected `name: …`")
        return
    for key, value in _pairs(node, complain):
        yield key, value.start_mark.line + 1, _plain(value, complain)


def _composed(file: str, text: str, complaints: list[Complaint]) -> yaml.Node | None:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error)
        line = mark.line + 1 if mark is not None else 0
        complaints.append(Complaint(file=file, line=line, message=f"not YAML: {what}"))
        return None
    return node


def _pairs(node: yaml.MappingNode, complain: Any) -> Iterator[tuple[str, yaml.Node]]:
    seen: set[str] = set()
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            complain(key.start_mark.line + 1, "a key must be a word")
        elif key.value in seen:
            complain(key.start_mark.line + 1, f"`{key.value}` stands twice")
        else:
            seen.add(key.value)
            yield key.value, value


def _plain(node: yaml.Node, complain: Any) -> Any:
    """Give a node's value; names and keys are text as written, whatever YAML takes them for."""
    if isinstance(node, yaml.MappingNode):
        return {key: _plain(value, complain) for key, value in _pairs(node, complain)}
    if isinstance(node, yaml.SequenceNode):
        return [_plain(value, complain) for value in node.value]
    kind = node.tag.removeprefix("tag:yaml.org,2002:")
    text: str = node.value
    if kind == "null":
        return None
    if kind in ("int", "float"):
        try:
            return int(text) if kind == "int" else float(text)
        except ValueError:
            return text
    return text


def _reason(error: msgspec.ValidationError) -> str:
    return str(error).replace("Object ", "").replace("$", "").replace(" - at ``", "")
