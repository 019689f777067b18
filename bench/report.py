"""From measured rounds to medians, a Markdown table, and a plot."""

import html
from statistics import median

TABLES = {
    "select": "pgbench -S, transactions per second",
    "tpcb": "pgbench TPC-B, transactions per second",
    "connect": "Connections per second (one SELECT each)",
    "bulk": "Bulk data, MB/s",
    "ssh": "SSH, commands per second (one after the other, a connection each)",
    "scp": "Copies over SSH, MB/s",
}
# What a cost is reckoned for, and where not the 99th percentile is shown.
PER = {"connect": "connection", "ssh": "command"}
SLOWEST = {"ssh": "p90"}


def summarise(rounds):
    """Medians of one cell's rounds, by arm: {arm: {figure: median, "ratio": median of the paired ratios}}.

    `rounds` is [{arm: {figure: number}}]; a ratio is taken within a round, so that drift between rounds cancels.
    """
    summary = {}
    for arm in rounds[0]:
        figures = {name: median(round_[arm][name] for round_ in rounds) for name in rounds[0][arm]}
        if "direct" in rounds[0]:
            figures["ratio"] = median(round_[arm]["rate"] / round_["direct"]["rate"] for round_ in rounds)
        summary[arm] = figures
    return summary


def markdown(result):
    """The whole report as Markdown."""
    lines = [
        "# Bench",
        "",
        f"{result['date']}, {result['machine']}. {'; '.join(result['versions'])}. "
        f"{result['rounds']} rounds of {result['seconds']} s for each cell, arms interleaved; medians. Client, server and "
        "road share the cores: read the ratios, which are taken within a round.",
        "",
        f"{result['dropped']} rounds were dropped because other processes used more than "
        f"{result['foreign_limit']:.0%} of the machine. Cells marked * never had a round below that limit; the "
        "quietest round stands for them.",
        "",
    ]
    for kind, title in TABLES.items():
        found = [cell for cell in result["cells"] if cell["kind"] == kind]
        if found:
            lines += [f"## {title}", "", *rate_table(found, result["arms"]), ""]
            lines += [*cost_table(found, result["arms"], kind), ""]
    if result["memory"]:
        lines += ["## Resident memory, idle sessions", "", *memory_table(result["memory"], result["idle_sessions"]), ""]
    if result["ssh_memory"]:
        title = "## Resident memory, idle sessions over SSH, each with a command that waits"
        lines += [title, "", *memory_table(result["ssh_memory"], result["ssh_idle_sessions"]), ""]
    if result["sealing"]:
        lines += ["## Sealing", "", *sealing_table(result["sealing"]), ""]
    return "\n".join(lines)


def row_name(cell):
    return cell["name"] + (" *" if cell["loaded"] else "")


def arms_of(cells, arms):
    return [arm for arm in arms if any(arm in cell["summary"] for cell in cells)]


def table(head, rows):
    return [f"| {' | '.join(row)} |" for row in [head, ["---"] + ["---:"] * (len(head) - 1), *rows]]


def rate_table(cells, arms):
    arms = arms_of(cells, arms)

    def value(cell, arm):
        figures = cell["summary"].get(arm)
        if figures is None:
            return "–"
        rate = f"{figures['rate']:,.0f}" if figures["rate"] >= 20 else f"{figures['rate']:.1f}"
        return rate if arm == "direct" else f"{figures['ratio']:.2f} ({rate})"

    head = ["", *(arm if arm == "direct" else f"{arm} ÷ direct" for arm in arms)]
    return table(head, [[row_name(cell), *(value(cell, arm) for arm in arms)] for cell in cells])


def cost_table(cells, arms, kind):
    arms = arms_of(cells, arms)
    proxies = [arm for arm in arms if arm != "direct"]
    if kind in ("bulk", "scp"):
        rows = [
            [row_name(cell), *(f"{cell['summary'][arm]['cpu_s_per_gb']:.2f}" for arm in proxies)] for cell in cells
        ]
        return table(["proxy CPU, s/GB", *proxies], rows)

    slowest = SLOWEST.get(kind, "p99")

    def latency(cell, arm):
        figures = cell["summary"].get(arm)
        return f"{figures['p50_us']:,.0f} / {figures[f'{slowest}_us']:,.0f}" if figures else "–"

    def cost(cell, arm):
        figures = cell["summary"].get(arm)
        return f"{figures['cpu_us']:,.1f} / {figures['switches']:.2f}" if figures else "–"

    lines = table([f"p50 / {slowest}, µs", *arms], [[row_name(cell), *(latency(cell, arm) for arm in arms)] for cell in cells])
    lines.append("")
    lines += table(
        [f"proxy CPU µs / context switches, per {PER.get(kind, 'transaction')}", *proxies],
        [[row_name(cell), *(cost(cell, arm) for arm in proxies)] for cell in cells],
    )
    return lines


def memory_table(memory, sessions):
    rows = [
        [arm, f"{kb['one_kb'] / 1024:.1f}", f"{kb['many_kb'] / 1024:.1f}", f"{kb['per_session_kb']:.1f}"]
        for arm, kb in memory.items()
    ]
    return table(["", "1 session, MiB", f"{sessions:,} sessions, MiB", "KiB per session"], rows)


def sealing_table(sealing):
    rows = [
        [f"{run['commands']:,}", f"{run['rate']:,}", f"{run['cpu_us']:.2f}", f"{run['peak_kb'] / 1024:.1f}"]
        for run in sealing
    ]
    return table(["commands in a row", "commands/s", "CPU µs per command", "peak memory, MiB"], rows)


# Distinguishable in grey and for the colour-blind.
COLOURS = ["#0b5394", "#e69138", "#6aa84f", "#cc0000", "#8e7cc3"]
BAR, GAP, LEFT, WIDTH, TOP = 11, 16, 240, 460, 60


def svg(result):
    """Rate ÷ direct for every cell and arm, as horizontal bars."""
    arms = [arm for arm in result["arms"] if arm != "direct"]
    cells = [cell for cell in result["cells"] if any(arm in cell["summary"] for arm in arms)]
    biggest = max([1.0] + [cell["summary"][arm]["ratio"] for cell in cells for arm in arms if arm in cell["summary"]])
    scale = WIDTH / biggest
    body, y = [], TOP
    for cell in cells:
        shown = [arm for arm in arms if arm in cell["summary"]]
        middle = y + BAR * len(shown) / 2 + 4
        body.append(f'<text x="{LEFT - 8}" y="{middle:.0f}" text-anchor="end">{html.escape(row_name(cell))}</text>')
        for arm in shown:
            ratio = cell["summary"][arm]["ratio"]
            colour = COLOURS[arms.index(arm) % len(COLOURS)]
            width = ratio * scale
            body.append(f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR - 1}" fill="{colour}"/>')
            body.append(f'<text x="{LEFT + width + 4:.1f}" y="{y + 9}" class="small">{ratio:.2f}</text>')
            y += BAR
        y += GAP
    one = LEFT + scale
    legend = []
    for index, arm in enumerate(arms):
        x = LEFT + index * 110
        legend.append(f'<rect x="{x}" y="32" width="10" height="10" fill="{COLOURS[index % len(COLOURS)]}"/>')
        legend.append(f'<text x="{x + 14}" y="41">{html.escape(arm)}</text>')
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 60}" height="{y}" '
            'font-family="sans-serif" font-size="12">',
            "<style>.small{font-size:9px}</style>",
            '<rect width="100%" height="100%" fill="white"/>',
            f'<text x="{LEFT}" y="20" font-size="14">Rate ÷ direct ({html.escape(result["date"])})</text>',
            *legend,
            f'<line x1="{one:.1f}" y1="{TOP - 6}" x2="{one:.1f}" y2="{y - GAP}" stroke="#999" stroke-dasharray="3"/>',
            *body,
            "</svg>",
            "",
        ]
    )
