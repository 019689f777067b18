#!/usr/bin/env python3
"""Instructions and system calls that one command costs in the gateway: figures that a loaded machine does not change.

    bench/instructions.py --trailgate target/release/trailgate            compares with bench/instructions.json
    bench/instructions.py --trailgate target/release/trailgate --keep     writes bench/instructions.json anew

Instructions are counted by callgrind, in user space, by thread; system calls by strace. The exit code is 1 if a count is
above the kept one by more than the tolerance. See README.md beside this file.
"""

import argparse
import collections
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from harness import HarnessError, needed  # noqa: E402
from harness.postgres import Postgres, bin_directory  # noqa: E402
from harness.roads import Trailgate  # noqa: E402

import flame  # noqa: E402

DATABASE = "bench"
MODES = ("simple", "extended", "prepared")
KEPT = HERE / "instructions.json"
# What starting a session costs is subtracted by running two sizes.
SMALL, LARGE = 500, 2500
# From the last command to the checkpoint that seals it; sealing waits 250 ms for more.
SEALED_S = 1.5
# A thread is known by a function that only it runs.
THREADS = {"worker": "postgres::conversation", "sealer": "trail::sealer::Sealer"}
# Callers by which functions are told apart in a flame graph.
STACK = 40
# What a block of SHA-256 takes with the processor's own instructions, by what it takes in valgrind.
SHA_INSTRUCTIONS = 100 / 1750
HASHING = re.compile(r"sha256_block_data_order")


class UnderCallgrind(Trailgate):
    """The gateway inside valgrind, its command line outside. With `stacks`, functions are told apart by their callers."""

    stacks = False

    def launch(self, command, **options):
        options_ = ["--tool=callgrind", "--separate-threads=yes", f"--callgrind-out-file={self.home / 'callgrind.%p'}"]
        if self.stacks:
            options_.append(f"--separate-callers={STACK}")
        super().launch([needed("valgrind", "bench"), *options_, *command], **options)

    def control(self, *arguments):
        command = [needed("callgrind_control", "bench"), *arguments, str(self.process.pid)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if done.returncode or "OK." not in done.stdout:
            raise HarnessError(f"callgrind_control {arguments[0]} failed: {done.stdout}{done.stderr}")

    def dump(self, label):
        """Counts since the last zero: {thread: {function: instructions}}."""
        before = set(self.home.glob("callgrind.*-*"))
        self.control("-d", label)
        wait_until_steady(lambda: sorted((file, file.stat().st_size) for file in self.home.glob("callgrind.*-*")))
        counts = collections.defaultdict(collections.Counter)
        for file in set(self.home.glob("callgrind.*-*")) - before:
            functions = by_function(file.read_text(errors="replace"))
            thread = next((name for name, mark in THREADS.items() if any(mark in f for f in functions)), "other")
            counts[thread].update(functions)
        return counts


def by_function(text):
    """Instructions by function, callees not included, of a file in callgrind's format."""
    counts, names, function, called = collections.Counter(), {}, "", False
    for line in text.splitlines():
        if named := re.match(r"c?fn=\((\d+)\)(?: (.*))?$", line):
            if named[2]:
                names[named[1]] = named[2]
            if line.startswith("fn="):
                function = names[named[1]]
        elif line.startswith("calls="):
            called = True
        elif cost := re.match(r"[+*\-\d]\S* (\d+)$", line):
            # The line behind `calls=` is what the callee cost.
            if not called:
                counts[function] += int(cost[1])
            called = False
    return counts


def wait_until_steady(look, pause_s=0.3):
    seen = look()
    while True:
        time.sleep(pause_s)
        now = look()
        if now == seen:
            return
        seen = now


def pgbench(road, mode, transactions):
    environment = road.endpoint().environment(DATABASE) | {"PGSSLMODE": "disable"}
    command = [bin_directory() / "pgbench", "-n", "-S", "-M", mode, "-t", str(transactions)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise HarnessError(f"pgbench failed: {done.stdout}{done.stderr}")


def count_instructions(server, binary, profiles):
    """{mode: {figure: instructions per command}}."""
    figures = {}
    with UnderCallgrind(server, binary, [DATABASE], {"workers": {"threads": 1}}) as road:
        for mode in MODES:
            pgbench(road, mode, SMALL)
            dumps = []
            for transactions in (SMALL, LARGE):
                time.sleep(SEALED_S)
                road.control("-z")
                pgbench(road, mode, transactions)
                time.sleep(SEALED_S)
                dumps.append(road.dump(f"{mode}-{transactions}"))
            small, large = dumps
            per_command = {}
            for thread in THREADS:
                counts = large[thread].copy()
                counts.subtract(small[thread])
                total = sum(counts.values())
                hashing = sum(count for name, count in counts.items() if HASHING.search(name))
                per_command[thread] = round((total - hashing) / (LARGE - SMALL))
                per_command[f"{thread}, SHA-256"] = round(hashing / (LARGE - SMALL))
                if profiles:
                    write_profile(profiles / f"instructions-{mode}-{thread}.txt", mode, thread, counts)
            figures[mode] = per_command
    return figures


def write_profile(path, mode, thread, counts):
    each = LARGE - SMALL
    lines = [f"# {mode}, {thread}: instructions per command, by function; callgrind, valgrind without SHA instructions"]
    lines += [f"{count / each:10.1f}  {name[:140]}" for name, count in counts.most_common(60)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def write_flames(server, binary, profiles):
    """Flame graphs of one mode, by thread: a run of their own, since telling stacks apart is slow."""
    mode = "prepared"
    with UnderCallgrind(server, binary, [DATABASE], {"workers": {"threads": 1}}) as road:
        pgbench(road, mode, SMALL)
        time.sleep(SEALED_S)
        road.control("-z")
        pgbench(road, mode, LARGE)
        time.sleep(SEALED_S)
        for thread, counts in road.dump("flame").items():
            if thread in THREADS:
                # callgrind names a function f'caller'callers-caller.
                stacks = collections.Counter()
                for name, count in counts.items():
                    if HASHING.search(name.split("'")[0]):
                        count = round(count * SHA_INSTRUCTIONS)
                    stacks[tuple(flame.short(part) for part in reversed(name.split("'")))] += count
                title = f"{thread}, {mode}: instructions in user space, SHA-256 as with the processor's own instructions"
                (profiles / f"flame-{thread}.svg").write_text(flame.svg(stacks, title, LARGE))


def count_system_calls(server, binary):
    """{mode: {name: calls per command}}, of all threads; empty without strace."""
    if not shutil.which("strace"):
        return {}
    figures = {}
    with Trailgate(server, binary, [DATABASE], {"workers": {"threads": 1}}) as road, tempfile.TemporaryDirectory() as home:
        for mode in MODES:
            calls = []
            for transactions in (SMALL, LARGE):
                out = Path(home) / f"{mode}-{transactions}"
                strace = subprocess.Popen(
                    ["strace", "-f", "-c", "-o", out, "-p", str(road.process.pid)], stderr=subprocess.DEVNULL
                )
                time.sleep(0.5)
                pgbench(road, mode, transactions)
                strace.send_signal(signal.SIGINT)
                strace.wait()
                rows = re.findall(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", out.read_text(), re.MULTILINE)
                calls.append(collections.Counter({name: int(count) for count, name in rows if name != "total"}))
            small, large = calls
            each = {name: (large[name] - small[name]) / (LARGE - SMALL) for name in large}
            figures[mode] = {name: round(count, 2) for name, count in sorted(each.items()) if count >= 0.05}
    return figures


def compare(kept, found, tolerance):
    """Lines of a report, and whether something is worse than the tolerance allows."""
    lines, worse = [], False
    for mode, figures in found.items():
        for name, count in figures.items():
            before = kept.get(mode, {}).get(name)
            if before is None:
                lines.append(f"{mode:9} {name:18} {count:>9}  (new)")
                continue
            change = count / before - 1 if before else float(count > 0)
            mark = ""
            if change > tolerance:
                worse, mark = True, "  WORSE"
            elif change < -tolerance:
                mark = "  better: --keep writes it down"
            lines.append(f"{mode:9} {name:18} {count:>9}  {change:+7.1%}{mark}")
    return lines, worse


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trailgate", type=Path, required=True, help="the gateway's binary, built with --release")
    parser.add_argument("--keep", action="store_true", help="write what is counted to instructions.json")
    parser.add_argument("--tolerance", type=float, default=0.03, help="share that a count may grow by (0.03)")
    parser.add_argument("--profiles", type=Path, help="where to write instructions by function")
    options = parser.parse_args()
    binary = options.trailgate.resolve()
    try:
        with Postgres() as server:
            server.psql(f"CREATE DATABASE {DATABASE}")
            subprocess.run(
                [bin_directory() / "pgbench", "-iq"],
                env=server.endpoint().environment(DATABASE), check=True, capture_output=True,
            )  # fmt: skip
            instructions = count_instructions(server, binary, options.profiles)
            calls = count_system_calls(server, binary)
            if options.profiles:
                UnderCallgrind.stacks = True
                write_flames(server, binary, options.profiles)
    except HarnessError as error:
        sys.exit(f"instructions: {error}")
    found = {"instructions": instructions, "system calls": calls}
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    worse = False
    for what, tolerance in (("instructions", options.tolerance), ("system calls", 0.2)):
        lines, is_worse = compare(kept.get(what, {}), found[what], tolerance)
        worse |= is_worse
        print(f"{what} per command", *lines, sep="\n")
    if options.keep:
        KEPT.write_text(json.dumps(found, indent=1) + "\n")
    elif worse:
        sys.exit("a command costs more than it did: make it cheaper, or say why and run with --keep")


if __name__ == "__main__":
    main()
