"""Whom the gateway takes for a target, and what it logs in with."""

import subprocess
import unittest

from house import House, mark
from harness.sshd import Sshd, keygen


def sign(authority, key, *options):
    subprocess.run(["ssh-keygen", "-q", "-s", authority, "-I", "test", *options, f"{key}.pub"], check=True)
    return f"{key}-cert.pub"


class Target(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.house = House()
        cls.house.__enter__()
        cls.addClassCleanup(cls.house.__exit__)

    def add(self, url):
        name = f"t{mark()}"
        self.house.gateway.run("target", "add", name, url)
        return name

    def enter(self, name):
        return self.house.ssh("echo in", options=("-o", f"User={name}"))

    def through(self, url):
        """A command at a target with this URL."""
        return self.enter(self.add(url))

    def test_a_host_certificate_of_a_pinned_authority(self):
        authority, other = (keygen(self.house.home / f"{name}-{mark()}") for name in ("ca", "other"))
        certified = lambda name: lambda key: sign(authority, key, "-h", "-n", name)  # noqa: E731
        with Sshd(certify=certified("127.0.0.1")) as sshd:
            url = sshd.url(host_key=False)
            done = self.through(f"{url}&host_ca=file:{authority}.pub")
            self.assertEqual((done.returncode, done.stdout), (0, b"in\n"), done.stderr)
            done = self.through(f"{url}&host_ca=file:{other}.pub")
            self.assertEqual(done.returncode, 255)
            self.assertIn(b"authority", done.stderr)
        with Sshd(certify=certified("elsewhere.example")) as sshd:
            done = self.through(f"{sshd.url(host_key=False)}&host_ca=file:{authority}.pub")
            self.assertEqual(done.returncode, 255)
            self.assertIn(b"not for this host", done.stderr)

    def test_the_gateway_logs_in_with_a_certificate(self):
        authority = keygen(self.house.home / f"ca-{mark()}")
        with Sshd(TrustedUserCAKeys=f"{authority}.pub") as sshd:
            (sshd.home / "authorized_keys").write_text("")
            self.assertEqual(self.through(sshd.url()).returncode, 255)
            certificate = sign(authority, sshd.gateway_key, "-n", sshd.login)
            done = self.through(f"{sshd.url()}&key_cert=file:{certificate}")
            self.assertEqual((done.returncode, done.stdout), (0, b"in\n"), done.stderr)

    def test_keys_of_every_kind(self):
        for kind, options in (("rsa", ("-b", "3072")), ("ecdsa", ("-b", "256")), ("ecdsa", ("-b", "384"))):
            with Sshd() as sshd:
                key = keygen(self.house.home / f"{kind}-{mark()}", "-t", kind, *options)
                (sshd.home / "authorized_keys").write_text((key.parent / f"{key.name}.pub").read_text())
                sshd.gateway_key = key
                done = self.through(sshd.url())
                self.assertEqual((done.returncode, done.stdout), (0, b"in\n"), (kind, done.stderr))

    def test_a_target_that_is_not_there(self):
        with Sshd() as sshd:
            name = self.add(sshd.url())
        done = self.enter(name)
        self.assertEqual(done.returncode, 255)
        self.assertIn(b"can't connect", done.stderr)

    def test_a_target_with_old_algorithms_only(self):
        with Sshd(KexAlgorithms="diffie-hellman-group14-sha1", Ciphers="aes128-cbc", MACs="hmac-sha1") as sshd:
            done = self.through(sshd.url())
            self.assertEqual(done.returncode, 255)
            self.assertTrue(done.stderr.startswith(b"trailgate: "), done.stderr)
