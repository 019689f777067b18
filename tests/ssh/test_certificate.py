"""Certificates of the gateway's own authority."""

import subprocess

from house import Case, mark
from harness.sshd import keygen


class Certificate(Case):
    def test_a_certified_key_comes_in_until_its_token_ends(self):
        name = f"certified-{mark()}"
        gateway = self.house.gateway
        gateway.run("agent", "add", name, "--for", "alice")
        key = keygen(self.house.home / name)
        gateway.run("ssh", "cert", name, "--key", f"{key}.pub", "--expires", "1h")
        shown = subprocess.run(["ssh-keygen", "-Lf", f"{key}-cert.pub"], capture_output=True, text=True, check=True).stdout
        self.assertIn(name, shown)
        options = ("-F", "none", "-p", str(self.house.port), "-o", "BatchMode=yes", "-o", f"IdentityFile={key}",
                   "-o", "IdentitiesOnly=yes", "-o", f"UserKnownHostsFile={self.house.known_hosts}")  # fmt: skip
        text = f"true # {mark()}"
        done = self.house.ssh(text, options=options, host="web1@127.0.0.1")
        self.assertEqual(done.returncode, 0, done.stderr)
        entry = self.house.entry(text)
        self.assertEqual((entry["principal"]["name"], entry["principal"]["proven_by"]), (name, "ssh-certificate"))
        self.assertTrue([e for e in self.house.entries("--kind", "control.changed") if "ssh.certificate" in str(e)])
        gateway.run("agent", "rotate", name)
        done = self.house.ssh("true", options=options, host="web1@127.0.0.1")
        self.assertEqual(done.returncode, 255)
