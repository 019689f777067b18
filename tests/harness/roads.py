"""The roads from a client to PostgreSQL: direct, through a peer, through Trailgate.

Each road has `name`, `endpoint()` (where the client connects, as whom), `pids()` (the processes
that the road adds) and is a context manager.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from . import Endpoint, HarnessError, Throwaway, free_port, needed, wait_for_file, wait_for_port
from .postgres import PASSWORD, SUPERUSER, make_certificate, unprivileged


class Direct:
    """No road at all: what the others are compared with."""

    name = "direct"

    def __init__(self, server):
        self.server = server

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def endpoint(self):
        return self.server.endpoint()

    def pids(self):
        return []


class Road(Throwaway):
    """A process between client and server."""

    name = ""

    def __init__(self, server):
        self.server = server
        self.port = free_port()
        self.process = None
        self.home = None

    def __enter__(self):
        self.home = Path(tempfile.mkdtemp(prefix=f"trailgate-{self.name}-"))
        self.home.chmod(0o755)
        return super().__enter__()

    def start(self):
        raise NotImplementedError

    def endpoint(self):
        return Endpoint("127.0.0.1", self.port, SUPERUSER, PASSWORD)

    def pids(self):
        return [self.process.pid]

    def launch(self, command, **options):
        log = self.home / "output.log"
        with open(log, "wb") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, **options
            )
        wait_for_port(self.port, self.process, log)


class StandIn(Road):
    """A TCP proxy of ours that changes nothing, or spoils one thing on purpose (see stand_in.py)."""

    def __init__(self, server, fault="none"):
        super().__init__(server)
        self.fault = fault
        self.name = "stand-in" if fault == "none" else f"stand-in:{fault}"

    def start(self):
        script = Path(__file__).with_name("stand_in.py")
        self.launch([sys.executable, script, str(self.port), str(self.server.port), self.fault])


class Haproxy(Road):
    """haproxy in TCP mode: a byte copy that knows nothing of the protocol."""

    name = "haproxy"

    def start(self):
        settings = self.home / "haproxy.cfg"
        settings.write_text(
            "global\n  maxconn 4000\n"
            "defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 1h\n  timeout server 1h\n"
            f"listen postgres\n  bind 127.0.0.1:{self.port}\n  server only 127.0.0.1:{self.server.port}\n"
        )
        self.launch([needed("haproxy", "bench"), "-db", "-f", settings])


class PgBouncer(Road):
    """PgBouncer with session pooling; SCRAM towards both sides."""

    name = "pgbouncer"

    def __init__(self, server, tls=False):
        super().__init__(server)
        self.tls = tls

    def start(self):
        users = self.home / "users.txt"
        users.write_text(f'"{SUPERUSER}" "{PASSWORD}"\n')
        lines = [
            "[databases]",
            f"* = host=127.0.0.1 port={self.server.port}",
            "[pgbouncer]",
            "listen_addr = 127.0.0.1",
            f"listen_port = {self.port}",
            "unix_socket_dir =",
            "auth_type = scram-sha-256",
            f"auth_file = {users}",
            "pool_mode = session",
            "default_pool_size = 1200",
            "max_client_conn = 2000",
            "ignore_startup_parameters = extra_float_digits,options",
            "server_tls_sslmode = disable",
            # What it would write of every connection and every minute is not part of the work compared.
            "log_connections = 0",
            "log_disconnections = 0",
            "log_stats = 0",
        ]
        if self.tls:
            certificate, key = make_certificate(self.home)
            lines += [
                "client_tls_sslmode = allow",
                f"client_tls_cert_file = {certificate}",
                f"client_tls_key_file = {key}",
            ]
        settings = self.home / "pgbouncer.ini"
        settings.write_text("\n".join(lines) + "\n")
        self.server.give(self.home)
        self.launch([needed("pgbouncer", "bench"), settings], cwd=self.home, **unprivileged())


class Trailgate(Road):
    """The gateway. Its one agent is named like the server's superuser, and each database is a target of the same
    name, so that a client sees the same user and database names on both roads."""

    name = "trailgate"

    def __init__(self, server, binary, databases, settings=None, name="trailgate"):
        """`settings` are sections of the settings file, {section: {key: value}}."""
        super().__init__(server)
        self.binary = binary
        self.databases = databases
        self.settings = settings or {}
        self.name = name
        self.token = None

    def start(self):
        sections = {
            "postgres": {"listen": f"127.0.0.1:{self.port}"},
            "web": {"listen": f"127.0.0.1:{free_port()}"},
            "ssh": {"listen": "127.0.0.1:0"},
            "workers": {"shutdown_grace_s": 1},
        }
        for section, values in self.settings.items():
            sections[section] = sections.get(section, {}) | values
        config = self.home / "trailgate.toml"
        # What JSON and TOML write alike is all that is needed here: strings and integers.
        config.write_text(
            "".join(
                f"[{section}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
                for section, values in sections.items()
            )
        )
        self.data = self.home / "data"
        self.launch([self.binary, "up", "--config", config, "--data", self.data], cwd=self.home)
        wait_for_file(self.data / "control.sock", self.process, self.home / "output.log")
        for database in self.databases:
            url = self.server.endpoint().url(database, "postgres") + "?sslmode=disable"
            self.run("target", "add", database, url)
        minted = re.search(r"\btg_[A-Za-z0-9_-]+", self.run("agent", "add", SUPERUSER))
        if minted is None:
            raise HarnessError("`trailgate agent add` printed no token")
        self.token = minted.group()

    def run(self, *arguments):
        """One command of the gateway's own command line; its output."""
        done = subprocess.run(
            [self.binary, *arguments, "--data", self.data], capture_output=True, text=True, cwd=self.home
        )
        if done.returncode != 0:
            raise HarnessError(f"`trailgate {' '.join(arguments[:2])}` failed: {done.stderr.strip()}")
        return done.stdout

    def endpoint(self):
        return Endpoint("127.0.0.1", self.port, SUPERUSER, self.token)

    def pids(self):
        return descendants(self.process.pid)


def descendants(pid):
    """A process and all that it started, as far as they still run."""
    children = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                parent = int(Path(entry.path, "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, pending = [], [pid]
    while pending:
        found.append(pending.pop())
        pending += children.get(found[-1], [])
    return found
