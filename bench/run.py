#!/usr/bin/env python3
"""Measures roads to PostgreSQL side by side: direct, PgBouncer, haproxy, Trailgate. See README.md beside this file."""

import argparse
import contextlib
import datetime
import json
import platform
import re
import resource
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from harness import REPOSITORY, HarnessError, needed  # noqa: E402
from harness.postgres import Postgres, bin_directory  # noqa: E402
from harness.roads import Direct, Haproxy, PgBouncer, Trailgate  # noqa: E402
from harness.sshd import Sshd  # noqa: E402
from measure import CORES  # noqa: E402
from report import markdown, summarise, svg  # noqa: E402
from ssh_workloads import IDLE_SESSIONS, SshDirect, SshTrailgate, ssh_cells, ssh_idle_memory  # noqa: E402
from workloads import DATABASE, cells, idle_memory, prepare, seal  # noqa: E402

# A round during which other processes used more of the machine than this is dropped.
FOREIGN_LIMIT = 0.05
# TPC-B alone is also run with everything at `crash`: what the default (`power` for changes) costs.
CRASH = "trailgate (crash)"
SERVER = {
    "max_connections": 1300,
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
}


def main():
    options = arguments()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        result = bench(options)
    except HarnessError as error:
        sys.exit(f"bench: {error}")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "bench.json").write_text(json.dumps(result, indent=1) + "\n")
    report = markdown(result)
    (options.out / "bench.md").write_text(report)
    (options.out / "bench.svg").write_text(svg(result))
    print(report)
    print(f"written to {options.out}/bench.md, bench.json, bench.svg")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short round each: a look, not a result")
    parser.add_argument("--trailgate", type=Path, help="the gateway's binary, built with --release; left out without it")
    parser.add_argument("--sealing", type=Path, help="the example `measure` of crate trail, built with --release")
    parser.add_argument("--rounds", type=int, help="clean rounds for each cell (5)")
    parser.add_argument("--seconds", type=float, help="of each run (4)")
    parser.add_argument("--only", default="", help="regular expression that a cell's kind and name must match")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="where the report goes")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.seconds = options.seconds or (1 if options.quick else 4)
    # How often a cell's round may be tried again after a dropped one.
    options.retries = 0 if options.quick else 2 * options.rounds
    options.idle = 300 if options.quick else 1000
    options.megabytes = 50 if options.quick else 200
    # Two sizes, so that memory that grows with what is sealed shows.
    options.sealed_commands = (50_000, 200_000) if options.quick else (200_000, 1_000_000)
    if options.trailgate:
        options.trailgate = options.trailgate.resolve()
        if not options.trailgate.exists():
            parser.error(f"{options.trailgate} does not exist")
    return options


def bench(options):
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Postgres(SERVER, tls=True))
        progress("filling the database")
        prepare(server, options.megabytes)
        roads = [Direct(server), PgBouncer(server, tls=True), Haproxy(server)]
        if options.trailgate:
            roads.append(Trailgate(server, options.trailgate, [DATABASE]))
            roads.append(
                Trailgate(server, options.trailgate, [DATABASE], {"journal": {"changes": "crash"}}, name=CRASH)
            )
        for road in roads:
            stack.enter_context(road)
        # Before anything else has made the roads grow.
        memory = {}
        for road in roads[1:]:
            if road.name != CRASH and re.search(options.only, "memory"):
                progress(f"{options.idle} idle sessions through {road.name}")
                memory[road.name] = idle_memory(road, options.idle)
        chosen = wanted(cells(), options)
        kept, dropped = measure_rounds(chosen, server, roads, options)
        ssh_memory = {}
        ssh = wanted(ssh_cells(options.megabytes), options) if options.trailgate else []
        if ssh:
            sshd = stack.enter_context(Sshd())
            gateway = next(road for road in roads if road.name == "trailgate")
            ssh_roads = [stack.enter_context(SshDirect(sshd)), stack.enter_context(SshTrailgate(sshd, gateway))]
            progress(f"{IDLE_SESSIONS} idle sessions over SSH")
            ssh_memory = {ssh_roads[1].name: ssh_idle_memory(ssh_roads[1])}
            ssh_kept, ssh_dropped = measure_rounds(ssh, sshd, ssh_roads, options)
            chosen, kept, dropped = chosen + ssh, kept | ssh_kept, dropped + ssh_dropped
        # Last: it deletes thousands of files, and for minutes ext4 looks at each of them whenever it makes a new one.
        sealing = []
        if options.sealing and re.search(options.only, "sealing"):
            progress("sealing")
            sealing = [seal(options.sealing.resolve(), commands) for commands in options.sealed_commands]
    return {
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "versions": versions(options),
        "quick": options.quick,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "foreign_limit": FOREIGN_LIMIT,
        "dropped": dropped,
        "arms": [road.name for road in roads],
        "cells": [
            {
                "kind": cell.kind,
                "name": cell.name,
                "loaded": all(is_loaded(round_) for round_ in kept[cell]),
                "summary": summarise(kept[cell]),
                "rounds": kept[cell],
            }
            for cell in chosen
        ],
        "idle_sessions": options.idle,
        "memory": memory,
        "ssh_idle_sessions": IDLE_SESSIONS,
        "ssh_memory": ssh_memory,
        "sealing": sealing,
    }


def wanted(cells, options):
    return [cell for cell in cells if re.search(options.only, f"{cell.kind} {cell.name}")]


def measure_rounds(chosen, server, roads, options):
    """Rounds of every cell: {cell: [{arm: figures}]}, and how many were dropped. Rounds are the outermost loop, so that
    slow drift of the machine spreads over all cells; within a round each arm takes its turn to go first."""
    clean = {cell: [] for cell in chosen}
    quietest = {}
    dropped = 0
    for turn in range(options.rounds + options.retries):
        for cell in chosen:
            if len(clean[cell]) >= options.rounds:
                continue
            progress(f"round {turn + 1}: {cell.kind} {cell.name}")
            arms = [road for road in roads if road.name != CRASH or cell.kind == "tpcb"]
            first = turn % len(arms)
            round_ = {road.name: cell.run(server, road, options.seconds) for road in arms[first:] + arms[:first]}
            round_ = {road.name: round_[road.name] for road in arms}
            if not is_loaded(round_):
                clean[cell].append(round_)
                continue
            dropped += 1
            if cell not in quietest or load(round_) < load(quietest[cell]):
                quietest[cell] = round_
    return {cell: clean[cell] or [quietest[cell]] for cell in chosen}, dropped


def load(round_):
    return max(figures["foreign_share"] for figures in round_.values())


def is_loaded(round_):
    return load(round_) > FOREIGN_LIMIT


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def machine():
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory_kb = re.search(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())[1]
    return (
        f"{CORES} cores of {model[1] if model else platform.machine()}, {int(memory_kb) / 2**20:.0f} GiB, "
        f"Linux {platform.release()}"
    )


def versions(options):
    def first_line(*command):
        done = subprocess.run(command, capture_output=True, text=True)
        return (done.stdout + done.stderr).strip().split("\n")[0]

    found = [
        first_line(bin_directory() / "postgres", "--version"),
        first_line(needed("pgbouncer", "bench"), "--version"),
        re.sub(r" \d{4}/.*", "", first_line(needed("haproxy", "bench"), "-v")),
    ]
    if options.trailgate:
        commit = first_line("git", "-C", str(REPOSITORY), "describe", "--always", "--dirty")
        found.append(f"{first_line(options.trailgate, '--version')} at {commit}")
    return found


if __name__ == "__main__":
    main()
