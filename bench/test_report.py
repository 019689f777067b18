"""The report's arithmetic. Run by scripts/check (python3 -m unittest)."""

import sys
import unittest
from pathlib import Path
from xml.etree import ElementTree

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from report import markdown, summarise, svg  # noqa: E402
from workloads import quantile  # noqa: E402

FIGURES = {"p50_us": 1, "p99_us": 2, "cpu_us": 3.0, "switches": 1.0, "foreign_share": 0.0}


def round_(direct, peer):
    return {"direct": FIGURES | {"rate": direct}, "peer": FIGURES | {"rate": peer}}


class Report(unittest.TestCase):
    def test_ratios_are_taken_within_a_round(self):
        # The machine was twice as fast in the second round: the paired ratio does not move.
        summary = summarise([round_(100, 50), round_(200, 100), round_(100, 60)])
        self.assertEqual(summary["peer"]["ratio"], 0.5)
        self.assertEqual(summary["peer"]["rate"], 60)

    def test_a_quantile_is_one_of_the_values(self):
        self.assertEqual(quantile(list(range(1, 101)), 0.99), 100)
        self.assertEqual(quantile([7], 0.5), 7)
        self.assertEqual(quantile([], 0.5), 0)

    def test_the_table_marks_loaded_cells_and_the_plot_is_well_formed(self):
        cell = {"kind": "select", "name": "a & b", "loaded": True, "summary": summarise([round_(100, 50)])}
        result = {
            "date": "2026-01-01", "machine": "m", "versions": ["v"], "rounds": 1, "seconds": 1, "dropped": 3,
            "foreign_limit": 0.05, "arms": ["direct", "peer"], "cells": [cell], "idle_sessions": 1000,
            "memory": {"peer": {"one_kb": 1024, "many_kb": 2048, "per_session_kb": 1.0}},
            "ssh_idle_sessions": 50, "ssh_memory": {},
            "sealing": [{"commands": 200_000, "rate": 300_000, "cpu_us": 3.0, "peak_kb": 20_480}],
        }  # fmt: skip
        text = markdown(result)
        self.assertIn("| a & b * | 100 | 0.50 (50) |", text)
        self.assertIn("3 rounds were dropped", text)
        self.assertIn("| peer | 1.0 | 2.0 | 1.0 |", text)
        self.assertIn("| 200,000 | 300,000 | 3.00 | 20.0 |", text)
        ElementTree.fromstring(svg(result))


if __name__ == "__main__":
    unittest.main()
