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

#[test]
fn a_refusal_takes_back_what_its_pipeline_has_set() {
    let mut talk = Talk::new();
    talk.says(EVIL, "SET", b'I');
    let refused = [parse("", "SELECT 'FORBIDDEN'"), bind("", "", &[])].concat();
    talk.client(&[run("SET search_path = public"), refused]);
    talk.target(&[ran("SET"), simple(b'1')]);
    talk.conversation.target(&error("42601", "syntax error"), &mut talk.notebook).unwrap();
    talk.client(&[sync()]);
    talk.target(&[ready(b'I')]);
    talk.says("SELECT lower('x')", "SELECT 1", b'I');
    assert_eq!(talk.last_class(), Class::Unknown);
}

/// What the target says of one.
fn ran(tag: &str) -> Vec<u8> {
    [simple(b'1'), simple(b'2'), complete(tag)].concat()
}

impl Talk {
    /// A statement that the target prepares.
    fn prepares(&mut self, name: &str, text: &str) {
        self.client(&[parse(name, text), sync()]);
        self.target(&[simple(b'1'), ready(b'I')]);
    }

    /// What stands under a name, as it is judged.
    fn bound(&mut self, name: &str) -> String {
        let (_, rest) = self.sends(&[bind("", name, &[]), execute("", 0), sync()]);
        self.target(&[simple(b'2'), complete("SELECT 1")]);
        self.sends(&[rest]);
        self.target(&[ready(b'I')]);
        self.notebook.0.last().unwrap().text.clone()
    }
}

const READ: &str = "SELECT 1";
const DELETE: &str = "DELETE FROM carts";
const UNKNOWN: &str = "(prepared statement \"p\")";

#[test]
fn a_name_that_sql_has_freed_can_be_given_anew() {
    for frees in ["DEALLOCATE p", "DEALLOCATE PREPARE p", "DEALLOCATE ALL", "DISCARD ALL"] {
        let mut talk = Talk::new();
        talk.prepares("p", READ);
        talk.prepares("q", READ);
        let held = talk.conversation.prepared_bytes.get();
        talk.says(frees, "DEALLOCATE", b'I');
        let freed = held - talk.conversation.prepared_bytes.get();
        assert_eq!(freed, if frees.ends_with("ALL") { held } else { held / 2 }, "{frees}");
        assert_eq!(talk.bound("p"), UNKNOWN, "{frees}");
        talk.prepares("p", DELETE);
        assert_eq!(talk.bound("p"), DELETE, "{frees}");
    }
}

#[test]
fn a_name_is_what_was_parsed_last_even_if_nobody_saw_it_freed() {
    let mut talk = Talk::new();
    talk.prepares("p", READ);
    talk.prepares("p", DELETE);
    assert_eq!(talk.bound("p"), DELETE);
}

#[test]
fn of_refused_and_skipped_ones_none_stands() {
    for again in 1..4 {
        let mut talk = Talk::new();
        talk.prepares("p", DELETE);
        let parses = vec![parse("p", READ); again].concat();
        talk.client(&[parses, sync(), query("SELECT 0")]);
        talk.target(&[error("42P05", "exists"), ready(b'I'), complete("SELECT 1"), ready(b'I')]);
        assert_eq!(talk.bound("p"), DELETE, "{again}");
    }
    // With another segment behind it, whose own is refused too.
    let mut talk = Talk::new();
    talk.prepares("p", DELETE);
    talk.client(&[parse("p", READ), parse("p", READ), sync(), parse("p", READ), sync()]);
    talk.target(&[error("42P05", "exists"), ready(b'I'), error("42P05", "exists"), ready(b'I')]);
    assert_eq!(talk.bound("p"), DELETE);
}

#[test]
fn behind_what_frees_a_name_it_stands_for_nothing_that_is_known() {
    let mut talk = Talk::new();
    talk.prepares("p", READ);
    let (_, rest) = talk.sends(&[
        run("DEALLOCATE p"),
        run("PREPARE p AS DELETE FROM carts"),
        bind("", "p", &[]),
        execute("", 0),
        run("EXECUTE p"),
        sync(),
    ]);
    let judged: Vec<_> = talk.notebook.0.iter().map(|entry| (entry.text.as_str(), entry.class)).collect();
    assert_eq!(judged[2..], [(UNKNOWN, Class::Unknown), ("EXECUTE p", Class::Unknown)]);
    talk.target(&[ran("DEALLOCATE"), ran("PREPARE"), simple(b'2'), complete("DELETE 1"), ran("DELETE 1")]);
    talk.sends(&[rest]);
    talk.target(&[ready(b'I')]);
    assert_eq!(talk.bound("p"), "PREPARE p AS DELETE FROM carts");
    assert_eq!(talk.last_class(), Class::Write);
}

#[test]
fn what_is_parsed_behind_what_frees_a_name_is_known() {
    let mut talk = Talk::new();
    talk.prepares("p", READ);
    talk.client(&[run("DEALLOCATE p"), parse("p", DELETE), bind("", "p", &[]), execute("", 0), sync()]);
    assert_eq!(talk.notebook.0.last().unwrap().text, DELETE);
    talk.target(&[ran("DEALLOCATE"), simple(b'1'), simple(b'2'), complete("DELETE 1"), ready(b'I')]);
    assert_eq!(talk.bound("p"), DELETE);
    // The same if the target does not take it: what was freed stays so, what was prepared stands.
    talk.client(&[run("DEALLOCATE p"), run("PREPARE p AS SELECT 2"), parse("p", READ), sync()]);
    talk.target(&[ran("DEALLOCATE"), ran("PREPARE"), error("42P05", "exists"), ready(b'I')]);
    assert_eq!(talk.bound("p"), "PREPARE p AS SELECT 2");
}

#[test]
fn a_name_that_waits_for_its_answer_holds_up_the_execute_of_the_next_segment() {
    let mut talk = Talk::new();
    talk.prepares("p", DELETE);
    talk.client(&[parse("p", READ), sync()]);
    assert_eq!(talk.client(&[query("EXECUTE p")]).next, Next::Stalled);
    talk.target(&[error("42P05", "exists"), ready(b'I')]);
    talk.client(&[query("EXECUTE p")]);
    assert_eq!(talk.last_class(), Class::Write);
}

/// A portal of this text is bound, that happens, and the portal is executed: what the trail has of it.
fn executed_behind(text: &str, between: &[Vec<u8>]) -> (Talk, Vec<(String, Class)>) {
    let mut talk = Talk::new();
    talk.prepares("p", READ);
    talk.client(&[parse("", text), bind("P", "", &["7"])]);
    let first = talk.notebook.0.len() - 1;
    talk.client(between);
    talk.client(&[execute("P", 0), sync()]);
    let of_it = talk.notebook.0.iter().skip(first).filter(|entry| entry.text == text);
    let judged = of_it.map(|entry| (entry.params.len(), entry.class)).collect::<Vec<_>>();
    assert!(judged.iter().all(|(params, _)| *params == 1));
    (talk, judged.into_iter().map(|(_, class)| (text.to_owned(), class)).collect())
}

#[test]
fn a_portal_that_runs_what_has_a_name_is_judged_again_where_the_name_changed_hands() {
    let (mut talk, judged) = executed_behind("EXECUTE p", &[close_statement("p"), parse("p", DELETE)]);
    let classes: Vec<_> = judged.iter().map(|(_, class)| *class).collect();
    assert_eq!(classes, [Class::Read, Class::Write]);
    let answers = [simple(b'1'), simple(b'2'), simple(b'3'), simple(b'1'), complete("DELETE 3"), ready(b'I')];
    talk.target(&answers);
    let outcomes = talk.outcomes();
    assert_eq!(
        outcomes,
        [("EXECUTE p", Status::Cancelled, None), ("EXECUTE p", Status::Ok, Some(3))],
        "the first was never executed"
    );
    assert_eq!(talk.notebook.0[0].message.as_deref(), Some(running::OVERTAKEN));
}

#[test]
fn what_names_tables_only_when_it_runs_is_judged_under_the_path_of_then() {
    let (mut talk, judged) = executed_behind("DROP TABLE carts", &[run("SET search_path = public")]);
    assert_eq!(judged.len(), 2);
    talk.target(&[simple(b'1'), simple(b'2'), ran("SET"), complete("DROP TABLE"), ready(b'I')]);
    assert_eq!(talk.outcomes().iter().filter(|(_, status, _)| *status == Status::Ok).count(), 2);
    // Role and code count as well; what is planned at Bind runs as it was planned.
    assert_eq!(executed_behind("DROP TABLE carts", &[run("SET ROLE boss")]).1.len(), 2);
    assert_eq!(executed_behind("DROP TABLE carts", &[run("SELECT somebodys()")]).1.len(), 2);
    assert_eq!(executed_behind("DELETE FROM carts WHERE id = $1", &[run("SET ROLE boss")]).1.len(), 1);
    assert_eq!(executed_behind("DROP TABLE carts", &[run("SELECT 2")]).1.len(), 1);
}

#[test]
fn a_bind_that_fails_is_the_error_of_what_was_judged_again() {
    let (mut talk, _) = executed_behind("EXECUTE p", &[close_statement("p"), parse("p", DELETE)]);
    talk.target(&[simple(b'1'), error("42P03", "portal exists"), ready(b'I')]);
    let statuses: Vec<_> = talk.outcomes().iter().map(|(_, status, _)| *status).collect();
    assert_eq!(statuses, [Status::Cancelled, Status::Error]);
}

#[test]
fn a_portal_whose_name_sql_has_given_to_a_cursor_is_gone() {
    let mut talk = Talk::new();
    talk.says("BEGIN", "BEGIN", b'T');
    talk.client(&[parse("", READ), bind("P", "", &[]), sync()]);
    talk.target(&[simple(b'1'), simple(b'2'), ready(b'T')]);
    talk.says("CLOSE \"P\"", "CLOSE CURSOR", b'T');
    talk.says("DECLARE \"P\" CURSOR FOR SELECT * FROM carts FOR UPDATE", "DECLARE CURSOR", b'T');
    assert_eq!(talk.notebook.0[1].message.as_deref(), Some(running::NEVER_EXECUTED));
    talk.client(&[execute("P", 0), sync()]);
    assert_eq!(talk.last_class(), Class::Unknown);
}
