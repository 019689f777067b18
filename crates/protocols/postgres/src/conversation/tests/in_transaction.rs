//! When a command is in an explicit transaction for certain.

use super::*;

impl Talk {
    fn flags(&self) -> Vec<bool> {
        self.notebook.0.iter().map(|entry| entry.in_transaction).collect()
    }
}

const INSERT: &str = "INSERT INTO t VALUES (1)";

#[test]
fn only_a_sure_transaction_is_one() {
    let mut talk = Talk::new();
    talk.client(&[query("BEGIN")]);
    talk.target(&[complete("BEGIN"), ready(b'T')]);
    talk.client(&[query(INSERT)]);
    talk.target(&[complete("INSERT 0 1"), ready(b'T')]);
    talk.client(&[query("COMMIT; INSERT INTO t VALUES (2)")]);
    assert_eq!(talk.flags(), [false, true, true, false]);
}

#[test]
fn behind_a_begin_of_the_same_message_or_pipeline_it_is_one() {
    let mut talk = Talk::new();
    talk.client(&[query(
        "BEGIN; INSERT INTO t VALUES (1); SAVEPOINT s; DELETE FROM t; COMMIT; DELETE FROM t",
    )]);
    assert_eq!(talk.flags(), [false, true, true, true, true, false]);
    let mut talk = Talk::new();
    talk.client(&[run("BEGIN"), run(INSERT), run("COMMIT"), run(INSERT), sync()]);
    assert_eq!(talk.flags(), [false, true, true, false]);
    // In the next segment it may have failed.
    let mut talk = Talk::new();
    talk.client(&[run("BEGIN"), sync(), run(INSERT), sync()]);
    assert_eq!(talk.flags(), [false, false]);
}

#[test]
fn a_begin_that_is_bound_and_not_executed_begins_nothing() {
    let mut talk = Talk::new();
    talk.client(&[parse("", "BEGIN"), bind("b", "", &[]), run(INSERT), execute("b", 0), run(INSERT), sync()]);
    assert_eq!(talk.flags(), [false, false, true]);
}

#[test]
fn a_commit_counts_when_it_is_executed_wherever_it_was_bound() {
    let mut talk = Talk::new();
    talk.client(&[
        parse("", "COMMIT"),
        bind("c", "", &[]),
        run("BEGIN"),
        run(INSERT),
        execute("c", 0),
        run(INSERT),
        sync(),
    ]);
    assert_eq!(talk.flags(), [false, false, true, false]);
}

#[test]
fn code_may_end_what_was_begun() {
    let mut talk = Talk::new();
    talk.client(&[run("BEGIN"), run("CALL it()"), run(INSERT), sync()]);
    assert_eq!(talk.flags(), [false, true, false]);
}

#[test]
fn what_was_sent_meanwhile_may_have_begun_another() {
    let mut talk = Talk::new();
    talk.client(&[query("SELECT 1"), query("BEGIN"), query(INSERT)]);
    talk.target(&[complete("SELECT 1"), ready(b'I')]);
    assert_eq!(talk.notebook.2, 0);
    talk.target(&[complete("BEGIN"), ready(b'T'), complete("INSERT 0 1"), ready(b'T')]);
    talk.client(&[query("COMMIT")]);
    talk.target(&[complete("COMMIT"), ready(b'I')]);
    assert_eq!(talk.notebook.2, 1);
}
