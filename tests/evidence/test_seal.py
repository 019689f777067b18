"""The sealer as a process of its own: either side may die at any time."""

import os
import random
import shutil
import subprocess
import unittest

from harness.gateway import Gateway, binary, until
from harness.processes import Sealer

from house import status, vkey, write_entries

EXTERNAL = {"sealer": {"run": "external"}, "journal": {"segment_mib": 1}}
SEED = int(os.environ.get("TRAILGATE_SEED", "0")) or random.randrange(1, 1 << 31)


def sealed(gateway):
    state = status(gateway)
    return state["records_unsealed"] == 0 and state["sealer_problem"] is None and state


class Seal(unittest.TestCase):
    def test_the_gateway_has_no_signing_key_and_everything_is_sealed(self):
        with Gateway(EXTERNAL) as gateway:
            write_entries(gateway, 3)
            self.assertIn("trailgate seal", status(gateway)["sealer_problem"])
            done = gateway.try_run("doctor")
            self.assertEqual(done.returncode, 1)
            self.assertIn("start `trailgate seal`", done.stdout)
            self.assertFalse((gateway.data / "ledger").exists())
            with Sealer(gateway) as sealer:
                until(lambda: sealed(gateway))
                write_entries(gateway, 300)
                self.assertEqual(len(gateway.entries("--kind", "control.changed")), 304)
                # One sealer is enough: another one, or a gateway that seals by itself, is refused.
                second = subprocess.run(sealer.arguments, capture_output=True, text=True, timeout=60)
                self.assertEqual(second.returncode, 1)
                self.assertIn("another process seals", second.stderr)
                self.assertEqual(gateway.stop(), 0)
                # Sealers of their own need the group to look in; a gateway that seals by itself does not have it.
                os.chmod(gateway.data, 0o700)
                inside = subprocess.run(
                    [binary(), "up", "--data", gateway.data, "--postgres-listen", "127.0.0.1:0", "--web-listen", "127.0.0.1:0"],
                    capture_output=True, text=True, timeout=60, env=gateway.environment(),
                )  # fmt: skip
                self.assertEqual(inside.returncode, 1)
                self.assertIn("being written by another process", inside.stderr)
                self.assertEqual(gateway.verify()["unsealed"], 0, "what a stopped gateway left is sealed")
                gateway.start()
                self.assertEqual(sealer.process.poll(), None)
                until(lambda: sealed(gateway))
            self.assertTrue(gateway.verify()["sound"])

    def test_either_side_may_be_killed(self):
        print(f"\nTRAILGATE_SEED={SEED}", flush=True)
        chance = random.Random(SEED)
        with Gateway(EXTERNAL) as gateway, Sealer(gateway) as sealer:
            written = 0
            for _ in range(8):
                count = chance.randrange(5, 60)
                write_entries(gateway, count)
                written += count
                if chance.random() < 0.5:
                    sealer.kill()
                    write_entries(gateway, 3)
                    written += 3
                    sealer.start()
                else:
                    gateway.kill()
                    gateway.start()
            try:
                until(lambda: sealed(gateway))
            except AssertionError as error:
                raise AssertionError(f"{status(gateway)}\n{sealer.text()[-2000:]}\n{gateway.log_text()[-2000:]}") from error
            found = gateway.verify()
            self.assertTrue(found["sound"])
            changes = gateway.entries("--kind", "control.changed")
            self.assertEqual(len(changes), written + 1)
            self.assertEqual(len({entry["id"] for entry in changes}), len(changes))
            until(lambda: len(list((gateway.data / "journal").glob("*.journal"))) <= 2)

    def test_a_sealer_goes_on_in_the_midst_of_a_gateways_run(self):
        with Gateway(EXTERNAL) as gateway, Sealer(gateway) as sealer:
            for end in (sealer.kill, sealer.stop, sealer.kill):
                write_entries(gateway, 20)
                until(lambda: sealed(gateway))
                end()
                write_entries(gateway, 3)
                sealer.start()
                until(lambda: sealed(gateway))
            self.assertTrue(gateway.verify()["sound"])
            self.assertEqual(len(gateway.entries("--kind", "control.changed")), 3 * 23 + 1)

    def test_a_journal_that_is_not_the_sealed_one_is_refused(self):
        with Gateway(EXTERNAL) as gateway, Sealer(gateway):
            write_entries(gateway, 20)
            until(lambda: sealed(gateway))
            gateway.stop()
            shutil.rmtree(gateway.data / "journal")
            with self.assertRaisesRegex(Exception, "is not the one that was sealed"):
                gateway.start()

    @unittest.skipUnless(os.geteuid() == 0, "needs root to be two users")
    def test_two_users_share_a_group(self):
        group, keeper = 64001, 64002
        with Gateway(EXTERNAL) as gateway:
            write_entries(gateway, 2)
            gateway.stop()
            data, keys = gateway.data, gateway.home / "keys"
            keys.mkdir(mode=0o700)
            shutil.copy(data / "node.key", keys / "node.key")
            for made in ["ledger", "vault", "trail-log"]:
                (data / made).mkdir(mode=0o750, exist_ok=True)
            os.chown(gateway.home, 0, group)
            os.chmod(gateway.home, 0o750)
            for path in [data, *data.rglob("*")]:
                mine = path.name in ("ledger", "vault", "trail-log")
                os.chown(path, keeper if mine else 0, group)
            os.chmod(data, 0o750)
            for path in [keys, keys / "node.key"]:
                os.chown(path, keeper, group)
            # Files that the gateway makes belong to its group.
            os.chmod(data / "journal", 0o2750)
            config = gateway.home / "trailgate.toml"
            os.chmod(config, 0o640)
            os.chown(config, 0, group)
            # Where it was built, other users may not go.
            program = shutil.copy(binary(), gateway.home / "trailgate")
            os.chmod(program, 0o755)
            log = open(gateway.home / "sealer.log", "ab")
            gateway.start()
            sealer = subprocess.Popen(
                [
                    program, "seal", "--config", config, "--data", data, "--node-key", keys / "node.key",
                    "--log-key", keys / "log.key", "--trail-log-key", keys / "trail-log.key",
                ],
                user=keeper, group=group, extra_groups=[], cwd="/", stdout=log, stderr=log, env=gateway.environment(),
            )  # fmt: skip
            try:
                until(lambda: sealed(gateway))
                write_entries(gateway, 5)
                self.assertTrue(gateway.verify()["sound"])
                self.assertEqual((keys / "log.key").stat().st_mode & 0o777, 0o600)
                self.assertFalse((data / "log.key").exists())
                self.assertEqual((data / "journal/gateway.json").stat().st_mode & 0o007, 0)
                self.assertIn("/", vkey(data))
            except AssertionError as error:
                raise AssertionError((gateway.home / "sealer.log").read_text()) from error
            finally:
                sealer.terminate()
                sealer.wait(60)
                log.close()


if __name__ == "__main__":
    unittest.main()
