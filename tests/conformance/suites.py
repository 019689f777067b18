"""The suites that we did not write. Each prepares itself in the cache and runs against one endpoint.

A suite has `name`, `database` (created before the run, the same name on both roads), `at_least` (fewer tests than this
mean that the suite did not run), `settings` of its server, `prepare()`, and `run(server, endpoint, scratch)` which
returns {test: Result}. Each run gets a fresh server.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree
from pathlib import Path

from compare import Result
from harness import CACHE, HarnessError
from harness.postgres import bin_directory, unprivileged

HERE = Path(__file__).resolve().parent
# One suite never takes this long; a hang ends here with what was printed so far.
SUITE_TIMEOUT_S = 1200


def postgres_home():
    """What scripts/postgres-source made: `src`, built, and maybe `root`, the server of the same version."""
    current = CACHE / "postgresql" / "current"
    if not current.exists():
        raise HarnessError("PostgreSQL's regression suites are not built: run scripts/setup conformance")
    return current.with_name(current.read_text().split()[1])


def postgres_source():
    return postgres_home() / "src"


@contextlib.contextmanager
def matching_server():
    """While this lasts, throwaway servers are of the version of the suites. Where that is not the installed one, it is a
    copy in a place that the server's account can read, which the cache need not be."""
    root = postgres_home() / "root"
    if not root.exists():
        yield
        return
    with tempfile.TemporaryDirectory(prefix="trailgate-postgresql-") as directory:
        Path(directory).chmod(0o755)
        shutil.copytree(root, Path(directory) / "root", symlinks=True)
        os.environ["TRAILGATE_POSTGRES_BIN"] = str(next(Path(directory).glob("root/usr/lib/postgresql/*/bin")))
        try:
            yield
        finally:
            del os.environ["TRAILGATE_POSTGRES_BIN"]


def run_logged(command, log, **options):
    """Runs a suite's own runner with its output in `log`; returns that output. The exit code is the suite's opinion of
    its failures, and only the comparison counts."""
    with open(log, "wb") as output:
        try:
            subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, timeout=SUITE_TIMEOUT_S, **options
            )
        except subprocess.TimeoutExpired:
            output.write(f"\nended after {SUITE_TIMEOUT_S} s\n".encode())
    return Path(log).read_text(errors="replace")


class Regress:
    """PostgreSQL's own regression schedule, as `make installcheck-parallel` runs it."""

    name = "regress"
    database = "regression"
    at_least = 200
    settings = {"max_prepared_transactions": 0}
    # With --use-existing pg_regress does not set these on the database, so we do.
    database_settings = {
        "lc_messages": "C", "lc_monetary": "C", "lc_numeric": "C", "lc_time": "C",
        "bytea_output": "hex", "timezone_abbreviations": "Default",
    }  # fmt: skip
    status = re.compile(
        r"^(?:test )?\s*(?P<old>\S+)\s+\.\.\. (?P<word>ok|FAILED|failed \(ignored\))"  # up to PostgreSQL 15
        r"|^(?P<tap>ok|not ok) \d+\s+[-+] (?P<new>\S+)"  # from 16
    )

    def prepare(self):
        self.source = postgres_source() / "src" / "test" / "regress"

    def run(self, server, endpoint, scratch):
        for name, value in self.database_settings.items():
            server.psql(f"ALTER DATABASE {self.database} SET {name} TO '{value}'")
        # The server reads and writes files here, so it must be a place of the server's account. The path is the same
        # on both roads as long as the caller gives the same `scratch`, since some outputs show it.
        work = scratch / "regress"
        shutil.copytree(self.source, work, ignore=shutil.ignore_patterns("*.o", "*.c"))
        (work / "results").mkdir(exist_ok=True)
        (work / "testtablespace").mkdir(exist_ok=True)
        server.give(work)
        output = run_logged(
            [
                "./pg_regress", "--use-existing", f"--dbname={self.database}", f"--host={endpoint.host}",
                f"--port={endpoint.port}", f"--user={endpoint.user}", f"--bindir={bin_directory()}",
                f"--dlpath={work}", "--inputdir=.", "--outputdir=.", "--max-concurrent-tests=20",
                "--schedule=parallel_schedule",
            ],
            scratch / "regress.log", cwd=work, env=endpoint.environment(self.database), **unprivileged(),
        )  # fmt: skip
        words = {}
        for line in output.splitlines():
            if found := self.status.match(line):
                ok = found["word"] == "ok" or found["tap"] == "ok"
                words[found["old"] or found["new"]] = "passed" if ok else "failed"
        results = {}
        for test in self.scheduled():
            out = work / "results" / f"{test}.out"
            evidence = out.read_text(errors="surrogateescape") if out.exists() else ""
            results[test] = Result(words.get(test, "not run"), evidence)
        return results

    def scheduled(self):
        lines = (self.source / "parallel_schedule").read_text().splitlines()
        return [test for line in lines if line.startswith("test:") for test in line.removeprefix("test:").split()]


class LibpqPipeline:
    """libpq's test of pipeline mode; what it traces of the protocol must be the same byte for byte."""

    name = "libpq_pipeline"
    database = "postgres"
    at_least = 11
    settings = {}
    rows = 700  # enough that buffers fill in both directions; as the suite's own driver has it

    def prepare(self):
        self.source = postgres_source() / "src" / "test" / "modules" / "libpq_pipeline"
        self.program = self.source / "libpq_pipeline"

    def run(self, server, endpoint, scratch):
        environment = endpoint.environment(self.database)
        environment |= {
            "LD_LIBRARY_PATH": str(postgres_source() / "src" / "interfaces" / "libpq"),
            # As the suite's own driver has it, so that the traces do not depend on the server's configuration.
            "PGOPTIONS": "-c extra_float_digits=0 -c debug_parallel_query=off"
            if int(bin_directory().parent.name) >= 16
            else "-c extra_float_digits=0 -c force_parallel_mode=off",
        }
        names = subprocess.run([self.program, "tests"], capture_output=True, text=True, check=True).stdout.split()
        results = {}
        for test in names:
            trace = scratch / f"{test}.trace"
            log = scratch / f"{test}.log"
            with open(log, "wb") as output:
                try:
                    code = subprocess.run(
                        [self.program, "-t", trace, "-r", str(self.rows), test, f"dbname={self.database}"],
                        env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, timeout=120,
                    ).returncode  # fmt: skip
                except subprocess.TimeoutExpired:
                    code = "timeout"
            # Only the traces that the suite itself holds as expected are the same from run to run.
            stable = (self.source / "traces" / f"{test}.trace").exists()
            evidence = trace.read_text(errors="replace") if stable and trace.exists() else ""
            results[test] = Result("passed" if code == 0 else "failed", evidence)
        return results


class PythonSuite:
    """A suite in a Python package's source distribution, in a virtual environment of the cache."""

    package = ""
    settings = {"max_prepared_transactions": 10}

    def prepare(self):
        requirements = HERE / "requirements.txt"
        pins = dict(re.findall(r"^([\w-]+)==(\S+)$", requirements.read_text(), re.MULTILINE))
        self.version = pins.get(self.package) or pins[f"{self.package}-binary"]
        venv = CACHE / "conformance-venv"
        self.python = venv / "bin" / "python"
        stamp = venv / "requirements.txt"
        if not stamp.exists() or stamp.read_text() != requirements.read_text():
            print(f"{self.name}: making a virtual environment", flush=True)
            subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
            self.pip("install", "-r", requirements)
            shutil.copy(requirements, stamp)
        self.source = CACHE / f"{self.package}-{self.version}"
        if not self.source.exists():
            print(f"{self.name}: fetching the source of {self.package} {self.version}", flush=True)
            fetched = CACHE / f"{self.package}-{self.version}.fetch"
            shutil.rmtree(fetched, ignore_errors=True)
            # What it is built with may be binary: from source that takes ten minutes.
            self.pip("download", "--no-deps", "--no-binary", self.package, "-d", fetched, f"{self.package}=={self.version}")
            with tarfile.open(next(fetched.glob("*.tar.gz"))) as archive:
                archive.extractall(fetched / "out", filter="data")
            next((fetched / "out").iterdir()).rename(self.source)
            shutil.rmtree(fetched)

    def pip(self, *arguments):
        done = subprocess.run(
            [self.python, "-m", "pip", "-q", "--disable-pip-version-check", *arguments], capture_output=True, text=True
        )
        if done.returncode != 0:
            raise HarnessError(f"pip {arguments[0]} failed:\n{(done.stdout + done.stderr)[-2000:]}")


class SqlAlchemy(PythonSuite):
    """The suite that SQLAlchemy gives to the authors of dialects, on psycopg2."""

    name = "sqlalchemy"
    package = "SQLAlchemy"
    database = "sqlalchemy"
    at_least = 1500

    def run(self, server, endpoint, scratch):
        server.psql(
            "CREATE SCHEMA test_schema", "CREATE SCHEMA test_schema_2", "CREATE EXTENSION hstore",
            "CREATE EXTENSION citext", database=self.database,
        )  # fmt: skip
        report = scratch / "report.xml"
        run_logged(
            [
                self.python, "-m", "pytest", "test/dialect/test_suite.py", "-q", "-p", "no:cacheprovider",
                "--maxfail=100000", f"--junitxml={report}", "--dburi", endpoint.url(self.database, "postgresql+psycopg2"),
            ],
            scratch / "sqlalchemy.log", cwd=self.source, env=endpoint.environment(self.database),
        )  # fmt: skip
        return junit(report)


def junit(report):
    """Results from a JUnit report; skipped tests carry their reason as evidence."""
    results = {}
    if not report.exists():
        return results
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        outcome, evidence = "passed", ""
        for child in case:
            if child.tag in ("failure", "error"):
                outcome = child.tag
            elif child.tag == "skipped":
                outcome, evidence = "skipped", child.get("message", "")
        results[f"{case.get('classname')}.{case.get('name')}"] = Result(outcome, evidence)
    return results


class Psycopg2(PythonSuite):
    """psycopg2's own tests."""

    name = "psycopg2"
    package = "psycopg2"
    database = "psycopg2_test"
    at_least = 700

    def run(self, server, endpoint, scratch):
        server.psql("CREATE EXTENSION hstore", database=self.database)
        report = scratch / "report.json"
        environment = os.environ | {
            "PSYCOPG2_TESTDB": self.database,
            "PSYCOPG2_TESTDB_HOST": endpoint.host,
            "PSYCOPG2_TESTDB_PORT": str(endpoint.port),
            "PSYCOPG2_TESTDB_USER": endpoint.user,
            "PSYCOPG2_TESTDB_PASSWORD": endpoint.password,
        }
        run_logged(
            [self.python, HERE / "unittest_report.py", "tests", report],
            scratch / "psycopg2.log", cwd=self.source, env=environment,
        )  # fmt: skip
        if not report.exists():
            return {}
        return {test: Result(*result) for test, result in json.loads(report.read_text()).items()}


SUITES = {suite.name: suite for suite in (Regress, LibpqPipeline, SqlAlchemy, Psycopg2)}
