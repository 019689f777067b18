"""Forwardings: off unless the target grants them, and recorded with endpoints and bytes."""

import contextlib
import http.server
import os
import socket
import subprocess
import threading
import time

from harness import free_port, stop
from house import Case, mark, until


@contextlib.contextmanager
def echo():
    """A server that sends back what it gets; its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    threading.Thread(target=answer, args=(connection,), daemon=True).start()

        def answer(connection):
            with connection, contextlib.suppress(OSError):
                while data := connection.recv(65536):
                    connection.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


def talk(port, data, seconds=15):
    """What comes back of `data`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            connection = socket.create_connection(("127.0.0.1", port), timeout=10)
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    received = b""
    # A forwarding that is refused closes at any moment.
    with connection, contextlib.suppress(OSError):
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while part := connection.recv(65536):
            received += part
    return received


class Forward(Case):
    def setUp(self):
        super().setUp()
        with contextlib.suppress(Exception):
            self.house.gateway.run(
                "target", "add", "open1", self.house.sshd.url(), *(
                    f"--allow={one}" for one in ("local-forward", "remote-forward", "local-streamlocal",
                                                 "remote-streamlocal", "agent-forward", "x11-forward")
                )
            )  # fmt: skip

    @contextlib.contextmanager
    def forwarding(self, *options, target="open1"):
        client = self.house.popen("-N", options=("-o", f"User={target}", "-o", "ExitOnForwardFailure=yes", *options))
        try:
            yield client
        finally:
            stop(client)

    def entry_of(self, part):
        def found():
            entries = self.house.entries("--kind", "command", "--limit", "50")
            return next((e for e in entries if part in e["command"]["text"] and e["outcome"]["bytes_in"]), None)

        return until(found)

    def test_off_unless_granted(self):
        with echo() as there:
            here = free_port()
            with self.forwarding("-L", f"{here}:127.0.0.1:{there}", target="web1"):
                self.assertEqual(talk(here, b"hello"), b"")
            denied = until(
                lambda: [e for e in self.house.entries("--kind", "command", "--status", "denied")
                         if f"local:127.0.0.1:{there}" in e["command"]["text"]]
            )  # fmt: skip
            self.assertIn("local-forward", denied[0]["outcome"]["message"])
            done = self.house.ssh("true", options=("-o", "ExitOnForwardFailure=yes", "-R", f"0:127.0.0.1:{there}"))
            self.assertEqual(done.returncode, 255)

    def test_local(self):
        data = os.urandom(1_000_000)
        with echo() as there:
            here = free_port()
            with self.forwarding("-L", f"{here}:127.0.0.1:{there}"):
                self.assertEqual(talk(here, data), data)
            outcome = self.entry_of(f"local:127.0.0.1:{there}")["outcome"]
            self.assertEqual((outcome["bytes_in"], outcome["bytes_out"]), (len(data), len(data)))

    def test_dynamic_and_stdio(self):
        with echo() as there:
            done = self.house.run("ssh", "-F", self.house.config, "-o", "User=open1", "-W", f"127.0.0.1:{there}", "web1",
                                  data=b"stdio", check=0)  # fmt: skip
            self.assertEqual(done.stdout, b"stdio")

    def test_remote(self):
        with echo() as here:
            there = free_port()
            with self.forwarding("-R", f"127.0.0.1:{there}:127.0.0.1:{here}"):
                self.assertEqual(talk(there, b"to the client" * 1000), b"to the client" * 1000)
            self.entry_of(f"remote:127.0.0.1:{there}")

    def test_sockets(self):
        with echo() as port:
            here, there = self.house.home / f"s-{mark()}", self.house.sshd.home / f"s-{mark()}"
            with self.forwarding("-R", f"{there}:127.0.0.1:{port}"):
                until(there.exists)
                with self.forwarding("-L", f"{here}:{there}"):
                    until(here.exists)
                    with socket.socket(socket.AF_UNIX) as connection:
                        connection.connect(str(here))
                        connection.sendall(b"x" * 5)
                        connection.shutdown(socket.SHUT_WR)
                        self.assertEqual(connection.recv(10), b"x" * 5)

    def test_agent(self):
        agent = subprocess.Popen(["ssh-agent", "-D", "-a", self.house.home / f"agent-{mark()}"],
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # fmt: skip
        try:
            path = agent.args[-1]
            until(path.exists)
            environment = self.house.environment() | {"SSH_AUTH_SOCK": str(path)}
            subprocess.run(["ssh-add", "-q", self.house.key], env=environment, check=True)
            listed = lambda target: subprocess.run(  # noqa: E731
                ["ssh", "-F", self.house.config, "-A", "-o", f"User={target}", "-o", "IdentityAgent=SSH_AUTH_SOCK",
                 "web1", "ssh-add -l"], env=environment, capture_output=True, timeout=30, check=False,
            )  # fmt: skip
            self.assertIn(b"ED25519", listed("open1").stdout)
            self.assertNotIn(b"ED25519", listed("web1").stdout)
            self.entry_of("agent")
        finally:
            stop(agent)

    def test_unknown_requests_and_channels_are_refused(self):
        done = self.house.ssh("true", options=("-o", "User=web1", "-w", "any"))
        self.assertIn(done.returncode, (0, 255))
