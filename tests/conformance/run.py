#!/usr/bin/env python3
"""Runs suites that others wrote against PostgreSQL, direct and through Trailgate, and compares test by test.

See README.md beside this file. Exit code 0: the same but for the reviewed list; 1: not the same; 2: wrong usage.
"""

import argparse
import difflib
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from compare import judge, read_list  # noqa: E402
from harness import REPOSITORY, HarnessError  # noqa: E402
from harness.postgres import Postgres  # noqa: E402
from harness.roads import Direct, StandIn, Trailgate  # noqa: E402
from suites import SUITES, matching_server  # noqa: E402

# Each fault of the stand-in with a suite that must notice it. psql shows the rows it got, not the count that the server
# claims, so `regress` is nearly blind to `rows`; the traces of libpq_pipeline are not.
FAULTS = {"notices": "libpq_pipeline", "rows": "libpq_pipeline", "parameters": "regress", "cancels": "psycopg2"}
# Differences printed for each suite; all are in its JSON.
SHOWN = 30
# Durability of the throwaway server is not what is tested.
FAST = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "autovacuum": "off"}


def main():
    options = arguments()
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    try:
        with matching_server():
            passed, failed = prove(options) if options.prove else run_all(options)
    except HarnessError as error:
        sys.exit(f"conformance: {error}")
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


def run_all(options):
    """Every suite that is asked for; how many tests passed and failed. A suite that can't run counts as one failure and
    does not keep the others from running."""
    # The list is the gateway's: nothing is forgiven to a proxy that only copies.
    listed = read_list(HERE / "differences.toml") if options.through == "trailgate" else {}
    passed, failed = 0, 0
    for name in options.suite:
        try:
            verdict = run_suite(SUITES[name](), options.through, options, listed.get(name, {}), options.out / name)
        except HarnessError as error:
            print(f"{name}: {error}", flush=True)
            failed += 1
        else:
            passed, failed = passed + verdict.passed, failed + verdict.failed
    return passed, failed


def prove(options):
    """Every fault of the stand-in; how many were caught and not."""
    caught = 0
    direct = {}  # one direct run of a suite serves all its faults
    for fault, suite in FAULTS.items():
        verdict = run_suite(SUITES[suite](), f"stand-in:{fault}", options, {}, options.out / fault, direct)
        print(f"fault `{fault}`: {'caught' if verdict.unlisted else 'NOT CAUGHT'} by {suite}\n", flush=True)
        caught += bool(verdict.unlisted)
    return caught, len(FAULTS) - caught


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", action="append", choices=list(SUITES), help="one suite (repeatable); all by default")
    parser.add_argument(
        "--through", default="trailgate", metavar="ROAD",
        help="trailgate (default), stand-in (a plain TCP proxy), or stand-in:FAULT (see tests/harness/stand_in.py)",
    )  # fmt: skip
    parser.add_argument("--trailgate", type=Path, help="the gateway's binary; target/debug/trailgate by default")
    parser.add_argument("--prove", action="store_true", help="show that each fault of the stand-in is caught")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "target" / "conformance", help="where results go")
    options = parser.parse_args()
    options.suite = options.suite or list(SUITES)
    if options.through != "trailgate" and options.through.split(":")[0] != "stand-in":
        parser.error(f"unknown road {options.through}")
    target = Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target")
    options.trailgate = (options.trailgate or target / "debug" / "trailgate").resolve()
    if options.through == "trailgate" and not options.prove and not options.trailgate.exists():
        parser.error(f"{options.trailgate} does not exist: build it, or say --through stand-in")
    return options


def run_suite(suite, road_name, options, reasons, out, direct_runs=None):
    """Both runs of a suite, judged, with the details written below `out`. A direct run that stands in `direct_runs` is not
    made again."""
    direct_runs = {} if direct_runs is None else direct_runs
    suite.prepare()
    out.mkdir(parents=True)
    if suite.name not in direct_runs:
        direct_runs[suite.name] = run_once(suite, "direct", options, out)
    direct, direct_s = direct_runs[suite.name]
    through, through_s = run_once(suite, road_name, options, out)
    if len(direct) < suite.at_least:
        raise HarnessError(
            f"{suite.name} ran {len(direct)} tests direct, fewer than the {suite.at_least} it has: see {out / 'direct'}"
        )
    verdict = judge(direct, through, reasons)
    print(f"{suite.name}: {verdict.tests} tests, {len(verdict.unlisted) + len(verdict.listed)} differ")
    print(f"  direct   {counts(verdict.direct)} in {direct_s:.0f} s")
    print(f"  through  {counts(verdict.through)} in {through_s:.0f} s ({road_name})")
    for difference in verdict.listed:
        print(f"  listed   {difference.line()}: {reasons[difference.test]}")
    for difference in verdict.unlisted[:SHOWN]:
        print(f"  DIFFERS  {difference.line()}")
    if len(verdict.unlisted) > SHOWN:
        print(f"  and {len(verdict.unlisted) - SHOWN} more: {out}.json")
    for test in verdict.stale:
        print(f"  STALE    {test} is on the list but no longer differs: take it off differences.toml")
    write_details(verdict, suite, road_name, out)
    sys.stdout.flush()
    return verdict


def run_once(suite, road_name, options, out):
    """One run on a fresh server; results and seconds. The suite's own logs are kept below `out`."""
    # Both runs use the same paths, which some outputs show.
    scratch = Path(tempfile.gettempdir()) / f"trailgate-conformance-{os.getpid()}"
    scratch.mkdir(mode=0o755)
    try:
        with Postgres({**FAST, **suite.settings}) as server:
            if suite.database != "postgres":
                server.psql(f"CREATE DATABASE {suite.database} TEMPLATE template0")
            server.give(scratch)
            with road(road_name, server, options, suite) as way:
                started = time.monotonic()
                results = suite.run(server, way.endpoint(), scratch)
                seconds = time.monotonic() - started
                kept = out / ("direct" if road_name == "direct" else "through")
                kept.mkdir()
                for log in [*scratch.glob("*.log"), *server.home.glob("*.log"), *road_logs(way)]:
                    shutil.copy(log, kept / log.name)
        return results, seconds
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def road(name, server, options, suite):
    if name == "direct":
        return Direct(server)
    if name == "trailgate":
        return Trailgate(server, options.trailgate, sorted({"postgres", suite.database}))
    return StandIn(server, name.partition(":")[2] or "none")


def road_logs(way):
    return way.home.glob("*.log") if getattr(way, "home", None) else []


def counts(counter):
    return ", ".join(f"{number} {word}" for word, number in counter.most_common())


def write_details(verdict, suite, road_name, out):
    """The suite's JSON, and for each difference in output what differs, as a unified diff."""
    for difference in verdict.unlisted + verdict.listed:
        lines = difflib.unified_diff(
            difference.direct.evidence.splitlines(), difference.through.evidence.splitlines(),
            "direct", "through", n=3, lineterm="",
        )  # fmt: skip
        text = "\n".join(lines)
        if text:
            name = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in difference.test)[-120:]
            (out / f"{name}.diff").write_text(text + "\n", errors="surrogateescape")
    report = {
        "suite": suite.name,
        "through": road_name,
        "passed": verdict.passed,
        "failed": verdict.failed,
        "outcomes": {"direct": dict(verdict.direct), "through": dict(verdict.through)},
        "stale": verdict.stale,
    }
    for kind in ("listed", "unlisted"):
        report[kind] = [
            {"test": found.test, "direct": found.direct.outcome, "through": found.through.outcome}
            for found in getattr(verdict, kind)
        ]
    (out.parent / f"{out.name}.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
