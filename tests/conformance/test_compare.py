"""The comparison itself: what must be noticed is noticed. Run by scripts/check (python3 -m unittest)."""

import tempfile
import unittest
from pathlib import Path

from compare import Sometimes, ListError, Result, judge, read_list

PASSED, FAILED = Result("passed", "one row"), Result("failed", "no row")


class Judge(unittest.TestCase):
    def test_equal_runs_pass_even_where_both_fail(self):
        verdict = judge({"a": PASSED, "b": FAILED}, {"a": PASSED, "b": FAILED}, {})
        self.assertEqual((verdict.passed, verdict.failed), (2, 0))

    def test_another_outcome_another_output_and_a_missing_test_fail(self):
        direct = {"outcome": PASSED, "output": PASSED, "gone": PASSED, "same": PASSED}
        through = {"outcome": FAILED, "output": Result("passed", "two rows"), "new": PASSED, "same": PASSED}
        verdict = judge(direct, through, {})
        self.assertEqual([found.test for found in verdict.unlisted], ["gone", "new", "outcome", "output"])
        self.assertEqual((verdict.passed, verdict.failed), (1, 4))

    def test_a_listed_difference_passes(self):
        verdict = judge({"a": PASSED}, {"a": FAILED}, {"a": "reviewed"})
        self.assertEqual((verdict.passed, verdict.failed), (1, 0))

    def test_a_listed_test_that_no_longer_differs_fails(self):
        verdict = judge({"a": PASSED}, {"a": PASSED}, {"a": "reviewed", "never ran": "reviewed"})
        self.assertEqual(verdict.stale, ["a", "never ran"])
        self.assertEqual((verdict.passed, verdict.failed), (0, 2))

    def test_what_timing_decides_may_differ_or_not_but_has_to_run(self):
        reasons = {"a": Sometimes("timing")}
        self.assertEqual(judge({"a": PASSED}, {"a": PASSED}, reasons).failed, 0)
        self.assertEqual(judge({"a": PASSED}, {"a": FAILED}, reasons).failed, 0)
        self.assertEqual(judge({}, {}, reasons).stale, ["a"])


class List(unittest.TestCase):
    def read(self, text):
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "differences.toml"
            path.write_text(text)
            return read_list(path)

    def test_the_list_in_the_tree_is_well_formed(self):
        read_list(Path(__file__).with_name("differences.toml"))

    def test_every_entry_has_a_reason_and_stands_once(self):
        entry = '[[difference]]\nsuite = "s"\ntest = "t"\nreason = "why"\n'
        self.assertEqual(self.read(entry), {"s": {"t": "why"}})
        for wrong in (entry + entry, entry.replace('"why"', '" "'), '[[difference]]\nsuite = "s"\ntest = "t"\n'):
            with self.assertRaises(ListError):
                self.read(wrong)


if __name__ == "__main__":
    unittest.main()
