"""What the evidence tests share: a gateway that writes entries without any target, sealers and witnesses, Go's verifier."""

import base64
import hashlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from harness import REPOSITORY, HarnessError, free_port
from harness.gateway import Gateway, binary
from harness.processes import Process

GO_SOURCE = REPOSITORY / "tests" / "interop" / "go" / "verify.go"


class Verifier:
    """tests/interop/go/verify.go, built once: Go's own packages and nothing of ours."""

    built = None

    @classmethod
    def program(cls):
        if cls.built is None:
            home = Path(tempfile.mkdtemp(prefix="trailgate-go-"))
            environment = os.environ | {
                "GO111MODULE": "off",
                "GOPATH": "/usr/share/gocode",
                "GOFLAGS": "",
                "GOCACHE": str(Path(tempfile.gettempdir()) / "trailgate-go-cache"),
            }
            command = ["go", "build", "-o", home / "verify", GO_SOURCE]
            subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
            cls.built = home / "verify"
        return cls.built

    @classmethod
    def run(cls, *arguments):
        """Its standard output; raises with what it says when it does not accept."""
        done = subprocess.run([cls.program(), *map(str, arguments)], capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise AssertionError(done.stderr.strip())
        return done.stdout

    @classmethod
    def remove(cls):
        if cls.built is not None:
            shutil.rmtree(cls.built.parent, ignore_errors=True)
            cls.built = None


def crates_monitor(gateway, key, log="log", kept=None):
    """What crates/ground/ledger/examples/monitor.rs, made of crates that we did not write, says of a log over HTTP."""
    program = binary().parent / "examples" / "monitor"
    if not program.exists():
        raise HarnessError(f"{program} does not exist: cargo build -p ledger --example monitor")
    command = [program, key, f"127.0.0.1:{gateway.web_port}", f"/{log}", *([kept] if kept else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        raise AssertionError(done.stderr.strip())
    return done.stdout


class Control(http.client.HTTPConnection):
    """The control socket of a data directory."""

    def __init__(self, data):
        super().__init__("localhost", timeout=30)
        self.path = str(data / "control.sock")

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def ask(gateway, path, method="GET", body=None):
    connection = Control(gateway.data)
    try:
        headers = {"content-type": "application/json"} if body else {}
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def status(gateway):
    return json.loads(ask(gateway, "/v1/status")[1])


def write_entries(gateway, count):
    """Somebody is shut out and let in again: each is an entry, `control.changed`, durable when this returns."""
    code, answer = ask(gateway, "/v1/persons/ada")
    if code == 404:
        gateway.add_agent("ada", kind="person")
        code, answer = ask(gateway, "/v1/persons/ada")
    disabled = json.loads(answer)["disabled"]
    for _ in range(count):
        code, answer = ask(gateway, f"/v1/persons/ada/{'enable' if disabled else 'disable'}", "POST")
        assert code == 200, (code, answer)
        disabled = not disabled


def witnessed(gateway):
    """Entries under a checkpoint that the witnesses have cosigned as the policy asks."""
    return status(gateway).get("witnessing", {}).get("witnessed", 0)


def web(gateway, path, headers=None):
    """An answer of the web listener: status, headers in lower case, body as it came."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.web_port, timeout=30)
    try:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def vkey(data, log="ledger"):
    return (data / log / "log.vkey").read_text().strip()


def some_vkey():
    """Of a log that there is not."""
    key = b"\x01" + os.urandom(32)
    key_id = hashlib.sha256(b"example.com/other\n" + key).hexdigest()[:8]
    return f"example.com/other+{key_id}+{base64.b64encode(key).decode()}"


def size_of(note):
    return int(note.split("\n")[1])


class Witness(Process):
    """A witness that knows the logs of `vkeys`. Its directory stays when it is started again."""

    def __init__(self, name, *vkeys, options=()):
        self.name = name
        self.port = free_port()
        self.store = Path(tempfile.mkdtemp(prefix="trailgate-witness-"))
        self.logs = self.store / "known"
        self.know(*vkeys)
        super().__init__(
            "witness", "up", "--data", self.store, "--name", f"{name}.example", "--listen", f"127.0.0.1:{self.port}",
            "--logs", self.logs, *options,
        )  # fmt: skip

    def know(self, *vkeys):
        self.logs.write_text("# logs\n" + "".join(f"{vkey}\n" for vkey in vkeys))

    @property
    def vkey(self):
        return (self.store / "witness.vkey").read_text().strip()

    def line(self, scheme="http"):
        """How a policy names it."""
        return f"witness {self.name} {self.vkey} {scheme}://127.0.0.1:{self.port}\n"

    def __exit__(self, *_):
        super().__exit__()
        shutil.rmtree(self.store, ignore_errors=True)


def post(port, body, path="/add-checkpoint"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", path, body=body)
        answer = connection.getresponse()
        return answer.status, answer.getheader("content-type"), answer.read().decode()
    finally:
        connection.close()


class Logs:
    """A gateway over a directory that outlives it, so that its logs' vkeys are known before witnesses start."""

    def __init__(self, settings=None):
        self.home = Path(tempfile.mkdtemp(prefix="trailgate-"))
        self.data = self.home / "data"
        self.settings = settings or {}

    def gateway(self, **settings):
        return Gateway({**self.settings, **settings}, data=self.data)

    def remove(self):
        shutil.rmtree(self.home, ignore_errors=True)


