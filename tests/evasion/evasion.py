"""Does anything that changes something pass for a read? PostgreSQL's own regression suite, statements of sqlsmith and
the cases of `cases.toml`, each judged and watched on a real server. `--long` for all of it. See README.md.
"""

import argparse
import collections
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

from harness import HarnessError, needed, raw
from harness.postgres import Postgres, bin_directory, unprivileged
from suites import Regress, matching_server
from watched import Road

HERE = Path(__file__).resolve().parent
REGRESSION = "regression"
SMITH_DATABASE = "smith"
SMITH_SEED = 20261123
SMITH_STATEMENTS = {"short": 500, "long": 20_000}
# sqlsmith makes joins of everything with everything.
SMITH_TIMEOUT = "100ms"
AT_LEAST_REGRESS = {"short": 3_000, "long": 30_000}
# Those that change things in the most ways, for the short form: `make test` has a few minutes on two cores.
SHORT_TESTS = (
    "with", "rules", "portals", "prepare", "prepared_xacts", "transactions", "sequence", "select_into", "largeobject",
    "copy2", "copydml", "namespace", "guc", "advisory_lock", "lock", "temp", "truncate", "updatable_views", "merge", "xml",
    "create_procedure", "security_label", "dependency", "reloptions", "replica_identity",
)  # fmt: skip
SHOWN = 12
TOOK = re.compile(r"^(?:test |ok \d+ +[-+] )?\s*(\S+)\s.*?(\d+) ms$", re.MULTILINE)

CLASSIFY = HERE.parents[1] / "crates" / "rules" / "classify" / "src" / "postgres"
TABLES = {
    "functions.txt": """SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
        AND NOT 'internal'::regtype = ANY (proargtypes) AND prorettype NOT IN ('internal'::regtype, 'trigger'::regtype,
        'event_trigger'::regtype, 'language_handler'::regtype, 'fdw_handler'::regtype, 'index_am_handler'::regtype,
        'table_am_handler'::regtype, 'tsm_handler'::regtype)""",
    "operators.txt": "SELECT DISTINCT oprname FROM pg_operator WHERE oprnamespace = 'pg_catalog'::regnamespace",
}
# They check the bodies of functions, and their calls are no queries that anybody writes: unknown is right for them.
NOT_FOR_CLIENTS = {"fmgr_c_validator", "fmgr_internal_validator", "fmgr_sql_validator", "plpgsql_validator"}

# Statements of the regression suite whose evidence is of something that no text tells, each looked at by a person.
LOOKED_AT = {
    "select * from my_locks order by 1;": "a view that calls txid_current(), which takes a transaction number",
}

# The server writes nothing by itself, as far as it lets itself be told, so that what is written was asked for.
SETTINGS = {
    "fsync": "off", "full_page_writes": "off", "autovacuum": "off", "checkpoint_timeout": "1h", "max_wal_size": "8GB",
    "bgwriter_lru_maxpages": "0", "wal_level": "logical", "jit": "off", "max_prepared_transactions": "4",
    "log_min_messages": "fatal", "log_min_error_statement": "panic", "max_parallel_workers_per_gather": "0",
    # A subscription that is enabled gets a worker later, which sets up its replication origin behind anybody's statement.
    "max_logical_replication_workers": "0",
}  # fmt: skip


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--long", action="store_true", help="all of regress, and 20,000 statements of sqlsmith")
    arguments.add_argument("--statements", type=int, help="how many of sqlsmith")
    arguments.add_argument("--only", choices=("catalog", "cases", "regress", "sqlsmith"), action="append")
    arguments.add_argument("--tests", nargs="*", help="of regress, only these (after test_setup)")
    arguments = arguments.parse_args()
    parts = arguments.only or ["catalog", "cases", "regress", "sqlsmith"]
    judge = os.environ["TRAILGATE_JUDGE"]
    form = "long" if arguments.long else "short"
    at_least = 0 if arguments.tests else AT_LEAST_REGRESS[form]
    tests = arguments.tests or (None if arguments.long else SHORT_TESTS)
    failed = False
    with tempfile.TemporaryDirectory(prefix="trailgate-evasion-") as scratch, matching_server():
        scratch = Path(scratch)
        scratch.chmod(0o755)
        with Postgres({**Regress.settings, **SETTINGS}) as server:
            if "catalog" in parts:
                failed |= not catalog(server)
            if "cases" in parts:
                failed |= not cases(server, judge)
            if "regress" in parts or "sqlsmith" in parts:
                failed |= not regress(server, judge, scratch, tests, at_least, "regress" in parts)
            if "sqlsmith" in parts:
                count = arguments.statements or SMITH_STATEMENTS[form]
                failed |= not sqlsmith(server, judge, count)
    return 1 if failed else 0


def catalog(server):
    """Whether the tables of built-in functions and operators are those of this server."""
    major = int(server.psql("SHOW server_version_num")) // 10000
    sound = True
    for table, sql in TABLES.items():
        listed = set()
        for line in (CLASSIFY / table).read_text().splitlines():
            name, *words = line.split()
            first, last = words[-1].split("-") if words and re.fullmatch(r"\d*-\d*", words[-1]) else ("", "")
            if int(first or 0) <= major <= int(last or 99):
                listed.add(name)
        known = set(server.psql(sql).split())
        missing, extra = known - listed - NOT_FOR_CLIENTS, listed - known
        wrong = f"{len(missing)} missing, {len(extra)} too many"
        print(f"catalog: {table}: {len(listed)} names for PostgreSQL {major}, {wrong}")
        for name in sorted(missing | extra):
            print(f"  WRONG {name}")
        sound &= not missing and not extra
    return sound


def regress(server, judge, scratch, tests, at_least, watched):
    """PostgreSQL's regression tests, one after the other, as its own runner runs them; all of them if `tests` is None."""
    suite = Regress()
    suite.prepare()
    server.psql(f"CREATE DATABASE {REGRESSION} TEMPLATE template0")
    for name, value in Regress.database_settings.items():
        server.psql(f"ALTER DATABASE {REGRESSION} SET {name} TO '{value}'")
    work = scratch / "regress"
    shutil.copytree(suite.source, work, ignore=shutil.ignore_patterns("*.o", "*.c", "expected"))
    shutil.copytree(suite.source / "expected", work / "expected")
    for name in ("results", "testtablespace"):
        (work / name).mkdir(exist_ok=True)
    server.give(work)
    which = ["test_setup", *tests] if tests else ["--schedule=parallel_schedule"]
    began = time.monotonic()
    data = server.home / "data"
    places = [data, data / "global", work / "results", data / "pg_replslot", server.home]
    with Road(server, REGRESSION, judge, places) if watched else contextlib.nullcontext() as road:
        endpoint = road.endpoint if road else server.endpoint()
        command = [
            "./pg_regress", "--use-existing", f"--dbname={REGRESSION}", f"--host={endpoint.host}",
            f"--port={endpoint.port}", f"--user={endpoint.user}", f"--bindir={bin_directory()}", f"--dlpath={work}",
            "--inputdir=.", "--outputdir=.", "--max-connections=1", *which,
        ]  # fmt: skip
        environment = endpoint.environment(REGRESSION)
        with open(scratch / "regress.log", "wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=work, env=environment,
                **unprivileged(),
            )  # fmt: skip
            process.wait()
        if not road:
            return True
        log = (scratch / "regress.log").read_text(errors="replace")
        passed = len(re.findall(r"\.\.\. ok|^ok ", log, re.MULTILINE))
        slow = sorted(((int(ms), name) for name, ms in TOOK.findall(log)), reverse=True)[:SHOWN]
        slowest = ", ".join(f"{name} {ms / 1000:.0f} s" for ms, name in slow)
        print(f"regress: {passed} tests with the expected output; slowest {slowest}")
        return report("regress", road, time.monotonic() - began, at_least)


def sqlsmith(server, judge, count):
    """Statements that sqlsmith makes of the regression database, run on a copy of it."""
    server.psql(f"CREATE DATABASE {SMITH_DATABASE} TEMPLATE {REGRESSION}")
    direct = server.endpoint()
    made = subprocess.run(
        [
            needed("sqlsmith", "evasion"), "--dry-run", f"--seed={SMITH_SEED}", f"--max-queries={count}",
            f"--target=host={direct.host} port={direct.port} user={direct.user} password={direct.password} "
            f"dbname={SMITH_DATABASE}",
        ],
        capture_output=True, text=True,
    )  # fmt: skip
    statements = [text.strip() for text in re.split(r";\s*\n", made.stdout) if text.strip()]
    if len(statements) < count * 0.9:
        raise HarnessError(f"sqlsmith made {len(statements)} of {count} statements: {made.stderr[-500:]}")
    # Only now: what sqlsmith itself asks of the catalog may take its time on a busy machine.
    server.psql(f"ALTER DATABASE {SMITH_DATABASE} SET statement_timeout TO '{SMITH_TIMEOUT}'")
    began = time.monotonic()
    data = server.home / "data"
    with Road(server, SMITH_DATABASE, judge, [data, data / "global", data / "pg_replslot"]) as road:
        client = None
        for number, statement in enumerate(statements):
            road.source = f"sqlsmith {number}"
            try:
                client = client or raw.Raw(road.endpoint, SMITH_DATABASE)
                run(client, statement)
                with road.lock:
                    settings = {change["name"] for facts in road.tried[-1].facts for change in facts["settings"]}
                if "*" in settings:
                    # It has set nobody knows what, behind which everything is unknown: back to what is known.
                    run(client, "RESET search_path")
            except (OSError, HarnessError):
                client = None  # the statement has ended its own session
        return report("sqlsmith", road, time.monotonic() - began, len(statements) * 0.9)


def run(client, statement):
    """Sends one text and takes what comes, up to ReadyForQuery."""
    client.send(raw.query(statement))
    while True:
        tag, _ = client.read()
        if tag == b"Z":
            return


def cases(server, judge):
    """What `cases.toml` expects of each statement, by name."""
    began = time.monotonic()
    table = tomllib.loads((HERE / "cases.toml").read_text())["case"]
    wrong = []
    data = server.home / "data"
    with Road(server, "postgres", judge, [data, server.home]) as road:
        for case in table:
            if setup := case.get("setup"):
                server.psql(setup)
                road.refresh()
            client = raw.Raw(road.endpoint, "postgres")
            for statement, class_, *what in case["run"]:
                road.source = case["name"]
                before = len(road.tried)
                with contextlib.suppress(OSError, HarnessError):
                    run(client, spelled(statement))
                with road.lock:  # until it has been looked at
                    tried = road.tried[-1] if len(road.tried) > before else None
                if tried is not None:
                    tried.beyond = case.get("beyond", False)
                if problem := mistake(tried, class_, what):
                    wrong.append(f"{case['name']}\n    {statement}\n    {problem}")
            with contextlib.suppress(OSError):
                client.send(raw.TERMINATE)
            client.socket.close()
        sound = report("cases", road, time.monotonic() - began, sum(len(case["run"]) for case in table))
    for line in wrong:
        print(f"  WRONG {line}")
    print(f"cases: {len(table)} evasions by name, {len(wrong)} statements wrong", flush=True)
    return sound and not wrong


def spelled(statement):
    """The bytes of a statement of `cases.toml`."""
    return bytes.fromhex(statement.removeprefix("hex:")) if statement.startswith("hex:") else statement.encode()


def mistake(tried, class_, what):
    """What is not as the case says, or None."""
    if tried is None:
        return "was not run"
    if tried.class_ != class_:
        return f"is called {tried.class_}, not {class_} ({tried.judged['unknown'] or 'parsed'})"
    for expected in what:
        if expected == "changes" and not tried.evidence:
            return f"changed nothing ({tried.error or 'no error'})"
        if (code := expected.removeprefix("refused ")) != expected and tried.error != code:
            return f"the server said {tried.error}, not {code}"
    return None


def report(name, road, seconds, at_least):
    """Prints what was tried and what it came to. True if nothing that changed anything was called harmless."""
    tried = road.tried
    suspects = [one for one in tried if one.called_harmless and one.evidence]
    false_reads = [one for one in suspects if not excused(one)]
    excusable = [one for one in suspects if excused(one)]
    alarms = [one for one in tried if not one.called_harmless and not one.evidence and one.error is None]
    classes = collections.Counter(one.class_ for one in tried)
    print(f"{name}: {len(tried)} statements in {seconds:.0f} s")
    print("  called   " + ", ".join(f"{class_} {count}" for class_, count in classes.most_common()))
    changed = sum(bool(one.evidence) for one in tried)
    print(f"  changed  {changed} changed something, {sum(one.error is not None for one in tried)} failed")
    unread = [one for one in tried if one.judged["unknown"] and one.error is None]
    print(f"  unread   {len(unread)} that the server ran and the parser did not understand")
    print(f"  false alarms {len(alarms)}: " + ", ".join(f"{why} {count}" for why, count in reasons(alarms)))
    if excusable:
        whys = collections.Counter(excused(one) for one in excusable)
        print("  explained " + ", ".join(f"{why} {count}" for why, count in whys.most_common()))
    print(f"  FALSE READS {len(false_reads)}" if false_reads else "  false reads 0")
    for one in false_reads[: SHOWN * 4]:
        print(f"    {one.source} [{one.class_}] {one.shown}\n      {'; '.join(one.evidence)}")
    for one in unread[:SHOWN]:
        print(f"    unread: {one.shown} ({one.judged['unknown']})")
    for failure in road.failures:
        print(f"  the road failed: {failure}")
    if len(tried) < at_least:
        print(f"  too few: {int(at_least)} were expected")
    sys.stdout.flush()
    return not false_reads and not road.failures and len(tried) >= at_least


def reasons(alarms):
    """Why they were called more than a read: the functions that are not known, else the verb."""
    counts = collections.Counter()
    for one in alarms:
        worst = [facts for facts in one.facts if facts["class"] == one.class_]
        unknown = one.class_ == "unknown" and any(
            use["effect"] == "unknown" for facts in worst for use in facts["functions"]
        )
        verb = worst[0]["verb"] if worst else "?"
        counts[f"{verb} with functions that are not PostgreSQL's own" if unknown else f"{one.class_} {verb}"] += 1
    return counts.most_common(SHOWN)


def excused(one):
    """What README.md says of evidence that belongs to other statements, to nobody, or to what no text tells."""
    if one.beyond:
        return "beyond the text"
    if all(facts["transaction"] in ("commit", "rollback", "savepoint") for facts in one.facts) and one.facts:
        return "ends a transaction: what it writes, earlier statements have done"
    if all(facts["verb"].startswith("DISCARD") for facts in one.facts):
        return "DISCARD drops the session's own temporary tables"
    if one.evidence == ["transaction number"]:
        called = {use["name"] for facts in one.facts for use in facts["functions"]}
        if called & {"txid_current", "pg_current_xact_id"}:
            return "takes a transaction number, and changes nothing"
        if one.shown in LOOKED_AT:
            return LOOKED_AT[one.shown]
        if one.has_temporary:
            return "temporary tables of the session's own, emptied at the end of the transaction"
    return None


if __name__ == "__main__":
    try:
        sys.exit(main())
    except HarnessError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
