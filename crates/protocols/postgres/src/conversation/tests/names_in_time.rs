//! What a name or a text means is decided when it runs: under the search path, and with the statements and cursors, of
//! that moment.

use super::*;

const EVIL: &str = "SET search_path = evil, pg_catalog";

impl Talk {
    /// A simple query that succeeds.
    fn says(&mut self, text: &str, tag: &str, status: u8) {
        self.client(&[query(text)]);
        self.target(&[complete(tag), ready(status)]);
    }

    fn last_class(&self) -> Class {
        self.notebook.0.last().unwrap().class
    }
}

#[test]
fn a_prepared_statement_is_judged_again_under_another_path() {
    let mut talk = Talk::new();
    talk.client(&[parse("s", "SELECT lower('x')"), sync()]);
    talk.target(&[simple(b'1'), ready(b'I')]);
    talk.client(&[bind("", "s", &[]), execute("", 0), sync()]);
    assert_eq!(talk.last_class(), Class::Read);
    talk.target(&[simple(b'2'), complete("SELECT 1"), ready(b'I')]);
    talk.says(EVIL, "SET", b'I');
    talk.client(&[bind("", "s", &[]), execute("", 0), sync()]);
    assert_eq!(talk.last_class(), Class::Unknown);
    talk.target(&[simple(b'2'), complete("SELECT 1"), ready(b'I')]);
    talk.says("RESET search_path", "RESET", b'I');
    talk.client(&[bind("", "s", &[]), execute("", 0), sync()]);
    assert_eq!(talk.last_class(), Class::Read);
}

#[test]
fn a_path_that_is_set_in_the_same_pipeline_counts_for_what_is_bound_behind_it() {
    let mut talk = Talk::new();
    talk.client(&[parse("s", "SELECT lower('x')"), sync()]);
    talk.target(&[simple(b'1'), ready(b'I')]);
    talk.client(&[
        parse("", EVIL),
        bind("", "", &[]),
        execute("", 0),
        bind("", "s", &[]),
        execute("", 0),
        sync(),
    ]);
    assert_eq!(talk.last_class(), Class::Unknown);
}

#[test]
fn execute_runs_what_has_the_name_now() {
    let mut talk = Talk::new();
    talk.says("PREPARE p AS SELECT 1", "PREPARE", b'I');
    talk.client(&[parse("s", "EXECUTE p"), sync()]);
    talk.target(&[simple(b'1'), ready(b'I')]);
    talk.says("DEALLOCATE p", "DEALLOCATE", b'I');
    talk.says("PREPARE p AS DELETE FROM carts", "PREPARE", b'I');
    talk.client(&[bind("", "s", &[]), execute("", 0), sync()]);
    assert_eq!(talk.last_class(), Class::Write);
}

#[test]
fn execute_is_unknown_under_another_path_than_that_of_prepare() {
    let mut talk = Talk::new();
    talk.says("PREPARE p AS SELECT lower('x')", "PREPARE", b'I');
    talk.says("EXECUTE p", "SELECT 1", b'I');
    assert_eq!(talk.last_class(), Class::Read);
    talk.says(EVIL, "SET", b'I');
    talk.says("EXECUTE p", "SELECT 1", b'I');
    assert_eq!(talk.last_class(), Class::Unknown);
}

#[test]
fn a_fetch_does_what_its_cursors_query_does() {
    let mut talk = Talk::new();
    talk.says("BEGIN", "BEGIN", b'T');
    talk.says("DECLARE r CURSOR FOR SELECT 1", "DECLARE CURSOR", b'T');
    talk.says("DECLARE w CURSOR FOR SELECT * FROM carts FOR UPDATE", "DECLARE CURSOR", b'T');
    talk.says("FETCH ALL FROM r", "FETCH 1", b'T');
    assert_eq!(talk.last_class(), Class::Read);
    talk.says("FETCH ALL FROM w", "FETCH 1", b'T');
    assert_eq!(talk.last_class(), Class::Write);
    talk.says("FETCH ALL FROM nobody_declared_this", "FETCH 0", b'T');
    assert_eq!(talk.last_class(), Class::Unknown);
}

#[test]
fn a_fetch_from_a_portal_does_what_its_statement_does() {
    let mut talk = Talk::new();
    talk.says("BEGIN", "BEGIN", b'T');
    talk.client(&[parse("", "DELETE FROM carts RETURNING id"), bind("portal", "", &[]), sync()]);
    talk.target(&[simple(b'1'), simple(b'2'), ready(b'T')]);
    talk.client(&[query("FETCH ALL FROM portal")]);
    assert_eq!(talk.last_class(), Class::Write);
}

#[test]
fn a_local_path_is_gone_with_its_transaction() {
    let mut talk = Talk::new();
    talk.says(EVIL, "SET", b'I');
    talk.says("BEGIN", "BEGIN", b'T');
    talk.says("SET LOCAL search_path = public", "SET", b'T');
    talk.says("SELECT lower('x')", "SELECT 1", b'T');
    assert_eq!(talk.last_class(), Class::Read);
    talk.says("COMMIT", "COMMIT", b'I');
    talk.says("SELECT lower('x')", "SELECT 1", b'I');
    assert_eq!(talk.last_class(), Class::Unknown);
}

#[test]
fn an_error_takes_back_what_its_text_has_set() {
    let mut talk = Talk::new();
    talk.says(EVIL, "SET", b'I');
    talk.client(&[query("SET search_path = public; SELECT 1/0")]);
    talk.target(&[complete("SET"), error("22012", "division by zero"), ready(b'I')]);
    talk.says("SELECT lower('x')", "SELECT 1", b'I');
    assert_eq!(talk.last_class(), Class::Unknown);
}
