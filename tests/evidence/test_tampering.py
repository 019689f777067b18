"""Whoever may write a gateway's directory changes it: every file, bit by bit, and whole files among each other."""

import json
import os
import random
import shutil
import unittest

from harness.gateway import CommandFailed, Gateway, until
from harness.postgres import Postgres
from harness.raw import Raw

from house import Logs, Witness, status, vkey, witnessed, write_entries

SEED = int(os.environ.get("TRAILGATE_SEED", "0")) or random.randrange(1, 1 << 31)
FLIPS = int(os.environ.get("TRAILGATE_FLIPS", "6"))

# What says nothing of what happened, and why. Everything else in the directory is evidence: a flipped bit in it is found.
NO_EVIDENCE = {
    "control.db": "who and what may be reached; each change of it is an entry",
    "control.db-wal": "the same",
    "control.db-shm": "the same",
    "node.json": "the name of the node, which the log's origin has too",
    "log.key": "signs, and is not there where evidence is verified; the gateway does not start with another",
    "trail-log.key": "the same",
    "tls/": "the listeners' certificates",
    "ssh/": "the listener's host key and authority",
    "lock": "empty, or the process that writes",
    "journal/gateway.json": "how things stand between gateway and sealer",
    "vault/sealer.json": "the same",
    "vault/sealer.run": "the same",
    "ledger/witnesses.json": "how things stand with the witnesses",
    "trail-log/witnesses.json": "the same",
    "trail-log/inbox": "what other nodes sent and nobody has taken up",
}


def is_evidence(name):
    return not any(
        name == apart or name.endswith(f"/{apart}") or apart.endswith(("/", "inbox")) and name.startswith(apart)
        for apart in NO_EVIDENCE
    )


class Tampering(unittest.TestCase):
    """One directory with all that can be in one: sessions of a target, an erasure, a hold, captures, witnesses, a trail log."""

    @classmethod
    def setUpClass(cls):
        print(f"\nTRAILGATE_SEED={SEED}", flush=True)
        cls.logs = Logs({"retention": {"output": "90d"}})
        cls.addClassCleanup(cls.logs.remove)
        with cls.logs.gateway() as gateway:
            gateway.stop()
        data, cls.policy = cls.logs.data, cls.logs.home / "policy"
        with Postgres({"fsync": "off"}) as server, Witness("w1", vkey(data), vkey(data, "trail-log")) as witness:
            cls.policy.write_text(f"log {vkey(data)}\nlog {vkey(data, 'trail-log')}\n{witness.line()}quorum w1\n")
            server.psql("CREATE ROLE app LOGIN PASSWORD 'sesame'", "CREATE DATABASE orders OWNER app")
            with cls.logs.gateway(witness={"policy": str(cls.policy)}, sealer={"heartbeat_s": 1}) as gateway:
                url = f"postgres://app:sesame@127.0.0.1:{server.port}/orders?sslmode=disable"
                gateway.add_target("orders", url)
                endpoint = gateway.endpoint("writer", gateway.add_agent("writer"))
                for number in range(3):
                    session = Raw(endpoint, "orders")
                    for n in range(110):
                        session.run(f"SELECT {number} + {n}")
                    session.socket.close()
                sessions = [entry["session"] for entry in gateway.entries("--kind", "session.start") if entry["principal"]]
                until(lambda: len(gateway.entries("--kind", "session.end")) >= 3)
                gateway.run("trail", "erase", sessions[0], "--reason", "asked for")
                gateway.run("trail", "hold", sessions[1], "--reason", "a lawsuit")
                write_entries(gateway, 5)
                until(lambda: witnessed(gateway) >= 340)
                # A heartbeat comes when nothing else does: looking too often keeps it from coming.
                until(lambda: gateway.entries("--kind", "heartbeat"), pause=3)
                gateway.stop()
        cls.gateway = gateway
        gateway.home.mkdir()
        cls.addClassCleanup(shutil.rmtree, gateway.home, ignore_errors=True)

    def verify(self, data=None):
        """Whether it verifies, and all that is said of it."""
        done = self.gateway.try_run("trail", "verify", "--witness-policy", self.policy, "--data", data or self.logs.data)
        self.assertIn(done.returncode, (0, 1), done.stderr)
        self.assertNotIn("panicked", done.stderr)
        return done.returncode == 0, done.stdout + done.stderr

    def files(self):
        data = self.logs.data
        return sorted(str(path.relative_to(data)) for path in data.rglob("*") if path.is_file())

    def test_a_flipped_bit_in_any_file_is_found_and_the_file_is_named(self):
        self.assertTrue(self.verify()[0], self.verify()[1])
        chance, flipped = random.Random(SEED), {}
        for name in filter(is_evidence, self.files()):
            path = self.logs.data / name
            whole = path.read_bytes()
            # What stands behind the last frame of a preallocated segment is zeroes; nothing reads them as anything.
            length = len(whole.rstrip(b"\0")) if name.startswith("journal/") else len(whole)
            for _ in range(min(FLIPS, 8 * length)):
                at, bit = chance.randrange(length), chance.randrange(8)
                sound, said = self.verify_with(path, whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
                where = f"bit {bit} of byte {at} of {name}"
                if name in self.older_state() and sound:
                    continue
                self.assertFalse(sound, f"{where} is not found")
                self.assertTrue(self.names(said, name), f"{where} is not located: {said}")
                flipped[name] = flipped.get(name, 0) + 1
        self.assertTrue(self.verify()[0])
        for part in [
            "journal/", "ledger/tile/0/", "ledger/tile/1/", "ledger/tile/entries/", "ledger/checkpoints", "ledger/checkpoint.witnessed",
            "ledger/log.vkey", "node.key", "trail-log/tile/", "trail-log/checkpoint", "vault/payload", "vault/keys", "vault/index",
            "vault/state-",
        ]:  # fmt: skip
            self.assertTrue(any(name.startswith(part) for name in flipped), f"nothing in {part}: {sorted(flipped)}")

    def verify_with(self, path, content):
        # A changed cosignature is nobody's, which shows where the other log's does not stand in for it.
        others = [] if path.name != "checkpoint.witnessed" else [
            self.logs.data / log / path.name for log in ("ledger", "trail-log") if log != path.parent.name
        ]  # fmt: skip
        whole = path.read_bytes()
        try:
            path.write_bytes(content)
            return self.verify_without(others)
        finally:
            path.write_bytes(whole)

    def older_state(self):
        """The sealer's state of the checkpoint before the published one, which says nothing any more: the smaller of the two."""
        sizes = {}
        for name in ["vault/state-0", "vault/state-1"]:
            data, size = (self.logs.data / name).read_bytes()[12:], 0
            for place, byte in enumerate(data):
                size |= (byte & 0x7F) << 7 * place
                if not byte & 0x80:
                    break
            sizes[name] = size
        return {name for name, size in sizes.items() if size < max(sizes.values())}

    def names(self, said, name):
        """Whether what is said names the file, or the directory of a log whose key was changed."""
        last = name.rsplit("/", 1)[-1]
        # The name of a wrapping key is all that there is to say of a wrong node key.
        # Of the two states only the one of the published checkpoint is missed, by what it is.
        if name.startswith("vault/state-") and "state of the sealer" in said:
            return True
        # A bundle goes by the name that the specification gives it.
        return name.removesuffix(".zst") in said or last in said or name == "node.key" and "node:" in said

    def test_a_file_that_is_gone_is_found_and_named(self):
        # The node key may be elsewhere, and the journal is not part of a copy of the evidence.
        optional = {"node.key"} | self.older_state()
        for name in filter(is_evidence, self.files()):
            if name in optional or name.startswith("journal/") or ".p/" in name:
                continue
            path = self.logs.data / name
            # Either log's cosigned checkpoint stands in for the other's.
            other = "trail-log" if name.startswith("ledger/") else "ledger"
            both = [path, self.logs.data / other / path.name] if path.name == "checkpoint.witnessed" else [path]
            sound, said = self.verify_without(both)
            self.assertFalse(sound, f"{name} is gone, and nobody says so")
            self.assertTrue(self.names(said, name) or len(both) == 2, f"{name} is gone: {said}")
        self.assertTrue(self.verify()[0])

    def verify_without(self, paths):
        away = self.logs.home / "away"
        try:
            for number, path in enumerate(paths):
                path.rename(away.with_suffix(f".{number}"))
            return self.verify()
        finally:
            for number, path in enumerate(paths):
                away.with_suffix(f".{number}").rename(path)

    def test_files_of_another_trail_are_found(self):
        """Each file that both have, in the place of the other's."""
        with Gateway() as other:
            write_entries(other, 340)
            other.stop()
            for name in filter(is_evidence, self.files()):
                theirs = other.data / name
                # Without the witness policy's files; those of the older state say nothing.
                if not theirs.is_file() or name in self.older_state() or theirs.read_bytes() == (self.logs.data / name).read_bytes():
                    continue
                path = self.logs.data / name
                sound, _ = self.verify_with(path, theirs.read_bytes())
                self.assertFalse(sound, f"another trail's {name} passes for ours")
        self.assertTrue(self.verify()[0])

    def test_an_erased_payload_is_the_only_one_that_may_be_gone(self):
        found = json.loads(self.gateway.run("trail", "verify", "--data", self.logs.data, "--json"))
        self.assertEqual(found["payloads"]["missing"], 0)
        self.assertGreater(found["payloads"]["erased"], 100)
        with self.assertRaises(CommandFailed) as refused:
            self.gateway.run("trail", "verify", "--data", self.logs.home)
        self.assertIn("there is no trail in", str(refused.exception))


class Forks(unittest.TestCase):
    """Two gateways go on from copies of one directory, and the same witness sees both."""

    def test_the_second_of_two_histories_is_refused_while_both_run(self):
        logs = Logs()
        self.addCleanup(logs.remove)
        with logs.gateway() as gateway:
            write_entries(gateway, 3)
            gateway.stop()
        twin = Logs()
        self.addCleanup(twin.remove)
        shutil.rmtree(twin.data, ignore_errors=True)
        shutil.copytree(logs.data, twin.data)
        policy = logs.home / "policy"
        with Witness("w1", vkey(logs.data), vkey(logs.data, "trail-log")) as witness:
            policy.write_text(f"{witness.line()}quorum w1\n")
            settings = {"witness": {"policy": str(policy)}}
            # Both start before either has shown the witness anything new: neither is refused for what the other did.
            witness.stop()
            with logs.gateway(**settings) as one, twin.gateway(**settings) as two:
                witness.start()
                until(lambda: witnessed(one) or witnessed(two), 40)
                write_entries(one, 9)
                write_entries(two, 4)
                views = until(lambda: self.contradicted(one, two), 60, 0.2)
                self.assertEqual(len(views), 1, "the witness can follow one history only")
                loser, problem = views[0]
                self.assertRegex(problem, "another history|set back")
                self.assertIn("contradict", loser.log_text())
                self.assertRegex(loser.try_run("doctor").stdout, "another history|set back")
                loser.stop()
                # It does not come up again, and what it holds is not what was cosigned.
                with self.assertRaisesRegex(Exception, "contradicts this log"):
                    loser.start()

    def contradicted(self, *gateways):
        found = []
        for gateway in gateways:
            problem = status(gateway)["witnessing"]["witnesses"][0]["problem"]
            if problem and ("history" in problem or "set back" in problem):
                found.append((gateway, problem))
        return found


if __name__ == "__main__":
    unittest.main()
