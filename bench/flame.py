"""A flame graph from callgrind's counts, as one SVG without scripts: time runs from left to right in no order, callers
stand below what they call."""

import html
import re

WIDTH, ROW, LABEL_FROM = 1200, 17, 45
# What takes less than this share of all instructions is left out.
LEAST = 0.003


def tree(stacks):
    """{(caller, …, callee): count} as nested [count, {name: node}]."""
    root = [0, {}]
    for stack, count in stacks.items():
        root[0] += count
        node = root
        for name in stack:
            node = node[1].setdefault(name, [0, {}])
            node[0] += count
    return root


def short(name):
    """A function's name without its crate's hash, and without the types that it is made for."""
    name = re.sub(r"::h[0-9a-f]{16}$", "", name)
    for _ in range(6):
        name = re.sub(r"<([^<>]*)>", lambda found: found[1].split(" as ")[0].split("::")[-1] if " as " in found[1] else "", name)
    return name.strip(":") or "?"


def svg(stacks, title, commands):
    """`stacks` are instructions by stack, over `commands` commands."""
    root = tree(stacks)
    boxes, deepest = [], 0

    def place(node, name, left, depth):
        nonlocal deepest
        deepest = max(deepest, depth)
        boxes.append((name, left, node[0], depth))
        for child, inner in sorted(node[1].items(), key=lambda item: -item[1][0]):
            if inner[0] >= LEAST * root[0]:
                place(inner, child, left, depth + 1)
                left += inner[0]

    place(root, "all", 0, 0)
    scale, height = WIDTH / max(1, root[0]), (deepest + 3) * ROW
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="monospace" font-size="11">',
        f'<rect width="100%" height="100%" fill="white"/><text x="4" y="13">{html.escape(title)}</text>',
    ]
    for name, left, count, depth in boxes:
        x, width, y = left * scale, count * scale, height - (depth + 1) * ROW
        shade = sum(name.encode()) % 60
        told = f"{name}: {count / commands:,.0f} instructions per command, {count / max(1, root[0]):.1%}"
        text = html.escape(name[: int(width / 6.8)]) if width >= LABEL_FROM else ""
        lines.append(
            f'<g><title>{html.escape(told)}</title><rect x="{x:.1f}" y="{y}" width="{max(width - 0.5, 0.5):.1f}" height="{ROW - 1}" '
            f'fill="rgb(235,{130 + shade},{60 + shade // 2})"/><text x="{x + 3:.1f}" y="{y + 12}">{text}</text></g>'
        )
    return "\n".join([*lines, "</svg>", ""])
