"""The commands of systemd/README.md. In: its text. Out: the scripts of each section's steps, in their order.

A step is a numbered item, named by its bold words; a script is a block of indented lines.
"""

import re
from pathlib import Path

README = Path(__file__).parents[3] / "systemd" / "README.md"


def steps(section: str) -> dict[str, list[str]]:
    """Give the scripts of a section by step; those before the first step have the name ''."""
    (text,) = re.findall(
        rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", README.read_text("utf-8"), re.M | re.S
    )
    found: dict[str, list[str]] = {"": []}
    step = ""
    inside = False
    for line in text.splitlines():
        if heading := re.match(r"\d+\. +\*\*(.+?)\.?\*\*", line):
            step = heading[1]
            found[step] = []
        indent = 7 if step else 4  # inside an item a block stands in from the item's own text
        if re.match(rf" {{{indent}}}\S", line):
            if not inside:
                found[step].append("")
            found[step][-1] += line[indent:] + "\n"
        inside = line.startswith(" " * indent)
    return found
