"""A verdict as a tired person reads it. In: a `Verdict`. Out: text on a rich console."""

from rich.console import Console
from rich.text import Text

from necropsy_analyzer.verdict.verdict import Culprit, Proof, Verdict

_SHOWN_PROOFS = 6
_INDENT = 12


def console() -> Console:
    """Give the console of a command: colour only on a terminal, NO_COLOR honoured, no wrapping in a pipe."""
    return Console(highlight=False, soft_wrap=True)


def render(verdict: Verdict, out: Console) -> None:
    """Write one verdict: what happened, why and how sure, what proves it, what to do."""
    out.print(Text(verdict.input, style="bold"))
    if verdict.error is not None:
        out.print(_row("Error", Text(verdict.error, style="red")))
        return
    out.print(_row("What", _what(verdict)))
    if verdict.crashed or verdict.fatal or verdict.evidence:
        out.print(_row("Cause", _cause(verdict)))
        culprit = _culprit(verdict.culprit)
        if culprit:
            out.print(_row("Culprit", Text(culprit)))
        kernel = _kernel(verdict)
        if kernel:
            out.print(_row("Kernel", Text(kernel)))
    for damage in verdict.damage:
        out.print(_row("Damaged", Text(damage, style="yellow")))
    shown = [proof for proof in verdict.evidence if proof.supports.get(verdict.cause, 0.0) > 0]
    shown = shown or [proof for proof in verdict.evidence if proof.line]
    if shown:
        out.print()
        out.print(Text("  What proves it", style="bold"))
        for proof in shown[:_SHOWN_PROOFS]:
            _proof(proof, verdict, out)
        if len(shown) > _SHOWN_PROOFS:
            out.print(Text(f"    and {len(shown) - _SHOWN_PROOFS} more", style="dim"))
    if verdict.action.summary and (verdict.crashed or verdict.fatal or verdict.evidence):
        out.print()
        out.print(Text("  What to do", style="bold"))
        out.print(Text(f"    {verdict.action.summary}"))
        for number, step in enumerate(verdict.action.steps, 1):
            out.print(Text(f"    {number}. {step}"))


def _row(name: str, value: Text) -> Text:
    return Text(f"  {name:<{_INDENT - 2}}", style="dim").append_text(Text(style="not dim").append_text(value))


def _what(verdict: Verdict) -> Text:
    if not (verdict.crashed or verdict.fatal):
        return Text("no crash in this log" if verdict.title is None else verdict.title, style="green")
    end = Text(" (the host went down)" if verdict.fatal else " (the host survived it)")
    return Text(verdict.title or "a crash without a title", style="bold red").append_text(end)


def _cause(verdict: Verdict) -> Text:
    text = Text(f"{verdict.cause}", style="bold").append(f" {verdict.confidence:.0%}")
    others = [
        f"{item.cause} {item.probability:.0%}" for item in verdict.ranking[1:3] if item.probability > 0.02
    ]
    if others:
        text.append(f"   else {', '.join(others)}", style="dim")
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


def _proof(proof: Proof, verdict: Verdict, out: Console) -> None:
    place = f"line {proof.line}" if proof.line else "derived"
    if proof.source is not None:
        place = f"{proof.source}:{proof.line}"
    times = f" ({proof.count} times)" if proof.count > 1 else ""
    out.print(Text(f"    {place}: ", style="cyan").append(proof.text or proof.title, style="default"))
    weight = proof.supports.get(verdict.cause)
    reason = f"      {proof.title}{times}" if proof.text else f"      {times.strip()}"
    if weight is not None:
        reason = f"{reason.rstrip()}, {weight:+.1f}"
    if reason.strip():
        out.print(Text(reason, style="dim"))
