"""Where the command line's output goes: files of its own, readers that leave early, gateways elsewhere."""

import json
import os
import stat
import subprocess
import tempfile
from pathlib import Path

from house import Case


class FilesAndPipes(Case):
    def directory(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        return Path(directory.name)

    def checks(self, **environment):
        """What the doctor has checked; not all may be well, with targets of other tests."""
        lines = self.gateway.try_run("doctor", "--json", **environment).stdout.splitlines()
        return {json.loads(line)["check"] for line in lines}

    def test_a_reader_who_leaves_early_makes_no_success(self):
        for line in ("trail verify", "trail verify --json", "target list"):
            reader, writer = os.pipe()
            os.close(reader)
            self.addCleanup(os.close, writer)
            done = subprocess.run(
                [self.gateway.binary, *line.split()], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60,
                env=self.gateway.environment(TRAILGATE_DATA=str(self.gateway.data)),
            )  # fmt: skip
            self.assertEqual((done.returncode, "panicked" in done.stderr), (141, False), line)

    def test_a_proof_is_private_also_over_an_older_file(self):
        self.psql("SELECT 'proven'")
        entry = self.entries("--grep", "proven", "--kind", "command")[0]
        proof = self.directory() / "proof"
        proof.write_text("older, and open to all")
        proof.chmod(0o644)
        self.gateway.run("trail", "prove", entry["id"], "-o", proof)
        self.assertEqual(stat.S_IMODE(proof.stat().st_mode), 0o600)
        self.gateway.run("trail", "verify", proof)

    def test_a_certificate_goes_to_the_file_with_json_too(self):
        directory = self.directory()
        key = directory / "id"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        certify = ("ssh", "cert", "chatgpt", "--key", f"{key}.pub", "--json")
        made = json.loads(self.gateway.run(*certify, "-o", directory / "cert"))
        self.assertEqual((directory / "cert").read_text().strip(), made["certificate"].strip())
        json.loads(self.gateway.run(*certify))
        self.assertFalse((directory / "id-cert.pub").exists(), "JSON alone makes no file")

    def test_a_doctor_elsewhere_does_not_look_at_its_own_machine(self):
        auditor = self.house.person("far", "--role", "auditor", "--role", "administrator")
        remote = {"TRAILGATE_URL": f"http://127.0.0.1:{self.gateway.web_port}", "TRAILGATE_TOKEN": auditor}
        here, there = self.checks(), self.checks(**remote)
        local = {"open files", "postgres listener", "ssh listener", "web listener"}
        self.assertEqual((local - here, local & there), (set(), set()))
        self.assertIn("target orders", there)
