"""A throwaway sshd: free port, keys of its own, the current user and, as root, an account made for the test."""

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from . import HarnessError, Throwaway, free_port

SSHD = "/usr/sbin/sshd"
# Several servers of one test run have an account each.
NUMBERS = itertools.count()


def keygen(path, *options):
    """A key without a passphrase: Ed25519, unless the options say otherwise."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path, *options], check=True)
    return Path(path)


class Sshd(Throwaway):
    """Use as a context manager."""

    def __init__(self, certify=None, **settings):
        """`certify` is called with the host's key and returns the path of its certificate."""
        self.home = Path(tempfile.mkdtemp(prefix="trailgate-sshd-"))
        self.home.chmod(0o755)
        self.port = free_port()
        self.certify = certify
        self.settings = settings
        self.process = None
        self.login = pwd.getpwuid(os.getuid()).pw_name
        self.other = f"tg-{os.getpid()}-{next(NUMBERS)}" if os.getuid() == 0 else None

    def __exit__(self, *_):
        super().__exit__()
        if self.other:
            subprocess.run(["userdel", "-f", self.other], capture_output=True, check=False)

    def start(self):
        if not Path(SSHD).exists():
            raise HarnessError(f"{SSHD} does not exist: install openssh-server (scripts/setup test)")
        self.host_key = keygen(self.home / "host_key")
        self.gateway_key = keygen(self.home / "gateway_key")
        (self.home / "authorized_keys").write_text((self.home / "gateway_key.pub").read_text())
        if self.other:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
            home = self.home / "other"
            subprocess.run(["useradd", "-M", "-d", home, "-s", "/bin/sh", "-p", "*", self.other], check=True)
            home.mkdir()
            shutil.chown(home, self.other)
        settings = {
            "ListenAddress": "127.0.0.1", "Port": self.port, "HostKey": self.host_key, "UsePAM": "no",
            "AuthorizedKeysFile": self.home / "authorized_keys", "StrictModes": "no", "PidFile": "none",
            "PasswordAuthentication": "no", "Subsystem": "sftp internal-sftp", "AcceptEnv": "LANG LC_* MARK",
            "PermitRootLogin": "yes", "MaxStartups": "200", "AllowStreamLocalForwarding": "yes",
            "PrintMotd": "no", "LogLevel": "VERBOSE",
        } | self.settings  # fmt: skip
        if self.certify:
            settings["HostCertificate"] = self.certify(self.host_key)
        config = self.home / "sshd_config"
        config.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        self.log = self.home / "sshd.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", config], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 15
        while b"Server listening" not in self.log.read_bytes():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise HarnessError(f"sshd did not come up:\n{self.log.read_text()}")
            time.sleep(0.02)

    def url(self, login=None, host_key=True, key=True):
        """What `target add` takes."""
        query = [f"key=file:{self.gateway_key}"] if key else []
        if host_key:
            query.append(f"host_key=file:{self.host_key}.pub")
        return f"ssh://{login or self.login}@127.0.0.1:{self.port}?{'&'.join(query)}"
