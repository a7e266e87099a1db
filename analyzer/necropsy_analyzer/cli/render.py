"""A verdict as a tired person reads it. In: a `Verdict`. Out: text on a rich console."""

from rich.console import Console
from rich.text import Text

from necropsy_analyzer.cli.terminal import line, safe
from necropsy_analyzer.verdict.verdict import Culprit, Proof, Verdict

_SHOWN_PROOFS = 6
_INDENT = 12


def render(verdict: Verdict, out: Console) -> None:
    """Write one verdict: what happened, why and how sure, what proves it, what to do."""
    out.print(line(verdict.input, style="bold"))
    if verdict.error is not None:
        out.print(_row("Error", line(verdict.error, style="red")))
        return
    out.print(_row("What", _what(verdict)))
    if verdict.crashed or verdict.fatal or verdict.evidence:
        out.print(_row("Cause", _cause(verdict)))
        culprit = _culprit(verdict.culprit)
        if culprit:
            out.print(_row("Culprit", line(culprit)))
        kernel = _kernel(verdict)
        if kernel:
            out.print(_row("Kernel", line(kernel)))
    for damage in verdict.damage:
        out.print(_row("Damaged", line(damage, style="yellow")))
    shown = [proof for proof in verdict.evidence if proof.supports.get(verdict.cause, 0.0) > 0]
    shown = shown or [proof for proof in verdict.evidence if proof.line]
    if shown:
        out.print()
        out.print(Text("  What proves it", style="bold"))
        quoted = _by_line(shown)
        for proofs in quoted[:_SHOWN_PROOFS]:
            _proof(proofs, verdict, out)
        if len(quoted) > _SHOWN_PROOFS:
            out.print(Text(f"    and {len(quoted) - _SHOWN_PROOFS} more", style="dim"))
    if verdict.action.summary and (verdict.crashed or verdict.fatal or verdict.evidence):
        out.print()
        out.print(Text("  What to do", style="bold"))
        out.print(line(f"    {verdict.action.summary}"))
        for number, step in enumerate(verdict.action.steps, 1):
            out.print(line(f"    {number}. {step}"))


def _row(name: str, value: Text) -> Text:
    return Text(f"  {name:<{_INDENT - 2}}", style="dim").append_text(Text(style="not dim").append_text(value))


def _what(verdict: Verdict) -> Text:
    if not (verdict.crashed or verdict.fatal):
        return line(verdict.title or "no crash in this log", style="green")
    end = Text(" (the host went down)" if verdict.fatal else " (the host survived it)")
    return line(verdict.title or "a crash without a title", style="bold red").append_text(end)


def _cause(verdict: Verdict) -> Text:
    text = line(verdict.cause, style="bold").append(f" {verdict.confidence:.0%}")
    others = [
        f"{item.cause} {item.probability:.0%}" for item in verdict.ranking[1:3] if item.probability > 0.02
    ]
    if others:
        text.append(safe(f"   else {', '.join(others)}"), style="dim")
    return text


def _culprit(culprit: Culprit) -> str:
    named = [culprit.frame or "", f"[{culprit.module}]" if culprit.module else ""]
    words = [" ".join(word for word in named if word)]
    for field in ("device", "dimm", "filesystem", "process"):
        value = getattr(culprit, field)
        if value is not None:
            words.append(f"{field} {value}")
    if culprit.cpu is not None:
        words.append(f"CPU {culprit.cpu}")
    return ", ".join(word for word in words if word)


def _kernel(verdict: Verdict) -> str:
    kernel = verdict.kernel
    tainted = f"tainted {kernel.tainted}" if kernel.tainted else None
    return ", ".join(word for word in (kernel.release, tainted, kernel.hardware) if word)


def _by_line(proofs: list[Proof]) -> list[list[Proof]]:
    """Put proofs that quote the same line together, the weightiest line first."""
    lines: dict[tuple[str | None, int, str], list[Proof]] = {}
    for proof in proofs:
        lines.setdefault((proof.source, proof.line, proof.text or proof.rule), []).append(proof)
    return list(lines.values())


def _proof(proofs: list[Proof], verdict: Verdict, out: Console) -> None:
    """Quote a line once, and below it what it says and how much that weighs."""
    first = proofs[0]
    place = f"line {first.line}" if first.line else "derived"
    if first.source is not None:
        place = f"{first.source}:{first.line}"
    out.print(line(f"    {place}: ", style="cyan").append(safe(first.text or first.title), style="default"))
    for proof in proofs:
        times = f" ({proof.count} times)" if proof.count > 1 else ""
        weight = proof.supports.get(verdict.cause)
        words = [f"{proof.title}{times}" if proof.text else times.strip()]
        words += [] if weight is None else [f"{weight:+.1f}"]
        reason = ", ".join(word for word in words if word)
        if reason:
            out.print(line(f"      {reason}", style="dim"))
