"""A throwaway PostgreSQL server."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from . import Endpoint, HarnessError, free_port

SUPERUSER = "postgres"
PASSWORD = "loopback-only"
START_TIMEOUT_S = 60


def bin_directory():
    """Where PostgreSQL's programs are: TRAILGATE_POSTGRES_BIN, else those of the newest installed version."""
    if chosen := os.environ.get("TRAILGATE_POSTGRES_BIN"):
        return Path(chosen)
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]), reverse=True
    )
    if not found:
        raise HarnessError("PostgreSQL is not installed: run scripts/setup test")
    return found[0].parent


def unprivileged():
    """Arguments for subprocess that drop root, which initdb and postgres refuse."""
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam("postgres")
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


class Postgres:
    """A cluster of its own in a temporary directory, on a free port of loopback, SCRAM for everyone.

    Use as a context manager. `settings` go to postgresql.conf; `tls` adds a self-signed certificate.
    """

    def __init__(self, settings=None, tls=False):
        self.port = free_port()
        self.process = None
        self.home = Path(tempfile.mkdtemp(prefix="trailgate-postgres-"))
        self.home.chmod(0o755)
        self.settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "lc_messages": "C",
            **(settings or {}),
        }
        self.tls = tls

    def __enter__(self):
        try:
            self._create()
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # fast shutdown: sessions are closed
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGQUIT)
                self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)

    def endpoint(self):
        return Endpoint("127.0.0.1", self.port, SUPERUSER, PASSWORD)

    def give(self, path):
        """Hands a file or directory to the account that the server runs as."""
        account = unprivileged()
        if not account:
            return
        os.chown(path, account["user"], account["group"])
        if Path(path).is_dir():
            for directory, names, files in os.walk(path):
                for name in names + files:
                    os.lchown(os.path.join(directory, name), account["user"], account["group"])

    def psql(self, *statements, database="postgres"):
        """Runs statements directly as the superuser and returns their output, unaligned."""
        commands = [argument for statement in statements for argument in ("-c", statement)]
        done = subprocess.run(
            [bin_directory() / "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", *commands],
            env=self.endpoint().environment(database),
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise HarnessError(f"psql failed: {done.stderr.strip()}")
        return done.stdout.strip()

    def _create(self):
        password_file = self.home / "password"
        password_file.write_text(PASSWORD + "\n")
        self.give(self.home)
        self.give(password_file)
        subprocess.run(
            [
                bin_directory() / "initdb", "--pgdata", self.home / "data", "--username", SUPERUSER,
                "--pwfile", password_file, "--auth", "scram-sha-256", "--no-locale", "--encoding", "UTF8",
                "--no-sync",
            ],
            check=True, stdout=subprocess.DEVNULL, cwd=self.home, **unprivileged(),
        )  # fmt: skip
        if self.tls:
            self.certificate, key = make_certificate(self.home)
            self.give(key)
            self.settings |= {"ssl": "on", "ssl_cert_file": self.certificate, "ssl_key_file": key}
        with open(self.home / "data" / "postgresql.conf", "a") as file:
            for name, value in self.settings.items():
                file.write(f"{name} = '{value}'\n")

    def _start(self):
        log = self.home / "postgres.log"
        with open(log, "wb") as output:
            self.process = subprocess.Popen(
                [bin_directory() / "postgres", "-D", self.home / "data"],
                stdout=output, stderr=subprocess.STDOUT, cwd=self.home, **unprivileged(),
            )  # fmt: skip
        # The port accepts before start-up is over; sessions are refused until then.
        ready = [bin_directory() / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        deadline = time.monotonic() + START_TIMEOUT_S
        while subprocess.run(ready).returncode != 0:
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise HarnessError(f"PostgreSQL did not start:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)


def make_certificate(directory):
    """A self-signed certificate for localhost and its key, as two files in `directory`."""
    certificate, key = Path(directory) / "certificate.pem", Path(directory) / "key.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-keyout", key, "-out", certificate,
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    key.chmod(0o600)
    certificate.chmod(0o644)
    return certificate, key
