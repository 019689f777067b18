"""The log of logs: several gateways, one of which keeps it for all."""

import json
import shutil
import unittest

from harness.gateway import CommandFailed, until

from house import Logs, Verifier, Witness, post, size_of, status, vkey, web, write_entries


def leaves(gateway):
    """The leaves of its trail log so far."""
    size = size_of(web(gateway, "/trail-log/checkpoint")[2].decode())
    found, number = [], 0
    while number * 256 < size:
        width = min(256, size - number * 256)
        suffix = "" if width == 256 else f".p/{width}"
        bundle = web(gateway, f"/trail-log/tile/entries/{number:03}{suffix}")[2]
        while bundle:
            length = int.from_bytes(bundle[:2], "big")
            found.append(bundle[2 : 2 + length].decode())
            bundle = bundle[2 + length :]
        number += 1
    return found


class TrailLog(unittest.TestCase):
    @classmethod
    def tearDownClass(cls):
        Verifier.remove()

    def test_a_gateway_of_its_own_keeps_one(self):
        logs = Logs({"sealer": {"heartbeat_s": 1}})
        self.addCleanup(logs.remove)
        with logs.gateway() as gateway:
            write_entries(gateway, 5)
            until(lambda: any("\nheartbeat\n" in leaf for leaf in leaves(gateway)))
            said = Verifier.run("monitor", vkey(logs.data, "trail-log"), f"http://127.0.0.1:{gateway.web_port}/trail-log")
            self.assertRegex(said, "^all")
            gateway.stop()
            found = gateway.verify()
            self.assertEqual((found["trail_log"]["nodes"], found["trail_log"]["silent"]), (1, []))
            gateway.start()

            def kinds():
                return [leaf.split("\n")[1] for leaf in leaves(gateway) if leaf.startswith("trailgate trail log v1\n")]

            # A gateway serves before it has said that it is there.
            until(lambda: kinds().count("join") == 2)
            self.assertEqual(kinds()[0], "join")
            self.assertEqual([kind for kind in kinds() if kind != "heartbeat"][:3], ["join", "leave", "join"])
            gateway.kill()
            # Of one byte of one leaf.
            bundle = sorted((logs.data / "trail-log/tile/entries").glob("000.p/*"), key=lambda path: int(path.name))[-1]
            sound = bundle.read_bytes()
            bundle.write_bytes(sound[:40] + bytes([sound[40] ^ 1]) + sound[41:])
            with self.assertRaises(CommandFailed):
                gateway.verify()
            bundle.write_bytes(sound)
            self.assertTrue(gateway.verify()["sound"])

    def test_nodes_send_their_checkpoints_to_one_of_them(self):
        first, second = Logs({"sealer": {"heartbeat_s": 1}}), Logs()
        self.addCleanup(first.remove)
        self.addCleanup(second.remove)
        for logs in [first, second]:
            with logs.gateway() as gateway:
                gateway.stop()
        nodes, policy = first.home / "nodes", first.home / "policy"
        trail_key, node_key = vkey(first.data, "trail-log"), vkey(second.data)
        nodes.write_text("")
        shutil.rmtree(second.data / "trail-log")
        with Witness("w1", trail_key) as witness:
            policy.write_text(f"log {trail_key}\n{witness.line()}quorum w1\n")
            settings = {"trail_log": {"nodes": str(nodes)}, "witness": {"policy": str(policy)}}
            with first.gateway(**settings) as keeper:
                elsewhere = {"url": f"http://127.0.0.1:{keeper.web_port}"}
                with second.gateway(trail_log=elsewhere) as node:
                    # Who is not on the list is not taken, and says so.
                    problem = until(lambda: (status(node).get("trail_log") or {}).get("problem"))
                    self.assertIn("takes no checkpoints", problem)
                    self.assertIn("takes no checkpoints", node.try_run("doctor").stdout)
                nodes.write_text(f"{node_key}\n")
                keeper.stop()
                keeper.start()
                with second.gateway(trail_log=elsewhere) as node:
                    write_entries(node, 7)
                    size = until(lambda: (view := status(node).get("trail_log")) and view["size"] >= 7 and view["size"], 40)
                    self.assertIsNone(status(node)["trail_log"]["problem"])
                    entry = node.entries("--kind", "control.changed")[2]["id"]
                    until(lambda: self.covered(node, policy, entry, first.home / "proof"), 40)
                    # Nobody else can speak for it, and it can't take back what it said.
                    checkpoint = (second.data / "ledger/checkpoint").read_text()
                    forged = checkpoint.replace(f"\n{size_of(checkpoint)}\n", f"\n{size_of(checkpoint) + 1}\n", 1)
                    self.assertEqual(self.add(keeper, forged)[0], 403)
                    self.assertEqual(self.add(keeper, "nonsense")[0], 400)
                    receipt = json.loads((second.data / "ledger/trail-log.receipt").read_text())
                    self.assertEqual(self.add(keeper, receipt["leaf"])[0], 409)
                    node.stop()
                    found = node.objects("trail", "verify", "--witness-policy", policy)[0]
                    self.assertTrue(found["sound"])
                    self.assertGreaterEqual(found["witnessed"], 7)
                    self.assertTrue(any("\nleave\n" in leaf and node_key.split("+")[0] in leaf for leaf in leaves(keeper)))
                # A node whose log is set back is found out by its receipt.
                self.assertGreaterEqual(size, 7)
                with second.gateway(trail_log=elsewhere) as node:
                    write_entries(node, 2)
                    until(lambda: (view := status(node).get("trail_log")) and view["size"] > size, 40)
                    node.kill()
                # It crashed and does not come back: that shows.
                name = node_key.split("+")[0]
                until(lambda: keeper.verify()["trail_log"]["silent"] == [name], 40, 0.5)

    def covered(self, node, policy, entry, proof):
        node.run("trail", "prove", entry, "-o", proof)
        done = node.try_run("trail", "verify", proof, "--witness-policy", policy)
        return done.returncode == 0 and "in the trail log" in done.stdout

    def add(self, keeper, leaf):
        return post(keeper.web_port, leaf.encode(), "/trail-log/add")


if __name__ == "__main__":
    unittest.main()
