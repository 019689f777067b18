//! Behind code only the target knows what the settings are.

use aws_lc_rs::digest::{SHA256, digest};
use classify::postgres::QUESTION;

use super::super::client::NAMES_QUESTION;
use super::*;

const CODE: &str = "SELECT somebodys()";
const SHADOWED: &str = "SELECT lower('A')";

/// A row of one column.
fn cell(text: &str) -> Vec<u8> {
    let mut body = vec![0, 1];
    body.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
    body.extend_from_slice(text.as_bytes());
    message(b'D', &body)
}

/// One value, as the target answers the question.
fn value(text: &str) -> Vec<u8> {
    [simple(b'T'), cell(text), complete("SHOW")].concat()
}

/// What names of prepared statements stand for, as the target answers the question.
fn names(each: &[(&str, &str)]) -> Vec<u8> {
    let line = |(name, text): &(&str, &str)| {
        let hash = digest(&SHA256, text.as_bytes());
        let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        cell(&format!("{hex}{name}"))
    };
    [simple(b'T'), each.iter().flat_map(line).collect(), complete("SELECT 1")].concat()
}

impl Talk {
    /// With a policy that does not permit the unknown.
    fn wary() -> Self {
        let mut talk = Self::new();
        talk.notebook.1 = true;
        talk
    }

    fn ran(&mut self, text: &str, status: u8) {
        self.client(&[query(text)]);
        self.target(&[complete("SELECT 1"), ready(status)]);
    }

    /// The target answers messages of which the client hears nothing.
    fn silently(&mut self, messages: &[Vec<u8>]) {
        let mut bytes = messages.concat();
        while !bytes.is_empty() {
            let scan = self.conversation.target(&bytes, &mut self.notebook).unwrap();
            let edit = edit(&scan);
            assert_eq!((scan.taken, edit.insert.len()), (0, 0));
            bytes.drain(..edit.skip);
        }
    }

    /// Nothing of these messages goes on before the target was asked; it answers that.
    fn asks(&mut self, messages: &[Vec<u8>], path: &str, status: u8) {
        self.asks_this(QUESTION, messages);
        self.silently(&[value(path), value("none"), ready(status)]);
    }

    /// As `asks`, where statements have names.
    fn asks_names(&mut self, messages: &[Vec<u8>], path: &str, each: &[(&str, &str)]) {
        self.asks_this(&format!("{QUESTION}{NAMES_QUESTION}"), messages);
        self.silently(&[value(path), value("none"), names(each), ready(b'I')]);
    }

    fn asks_this(&mut self, question: &str, messages: &[Vec<u8>]) {
        let scan = self.client(messages);
        assert_eq!(scan, Scan { taken: 0, next: Next::Stalled });
        assert_eq!(self.conversation.take_upward(), query(question));
        assert_eq!(self.client(messages).next, Next::Stalled, "it waits for the answer");
    }

    /// A named statement is executed; its class and text, as they were judged.
    fn executes(&mut self, name: &str) -> (Class, String) {
        let (_, rest) = self.sends(&[bind("", name, &[]), execute("", 0), sync()]);
        self.target(&[simple(b'2'), complete("SELECT 1")]);
        // What is not known might have been a COPY: then its Sync has waited.
        self.sends(&[rest]);
        self.target(&[ready(b'I')]);
        let entry = self.notebook.0.last().unwrap();
        (entry.class, entry.text.clone())
    }

    fn last(&self) -> Class {
        self.notebook.0.last().unwrap().class
    }
}

#[test]
fn the_target_is_asked_behind_code_and_its_answer_counts() {
    let mut talk = Talk::wary();
    talk.ran(CODE, b'I');
    talk.asks(&[query(SHADOWED)], "evil, pg_catalog", b'I');
    talk.ran(SHADOWED, b'I');
    assert_eq!(talk.last(), Class::Unknown);
    talk.asks(&[query("RESET search_path")], "public", b'I');
    talk.ran(SHADOWED, b'I');
    assert_eq!(talk.last(), Class::Read);
}

#[test]
fn where_policy_permits_the_unknown_nothing_is_asked() {
    let mut talk = Talk::new();
    talk.ran(CODE, b'I');
    talk.ran(SHADOWED, b'I');
    assert_eq!(talk.last(), Class::Read);
}

#[test]
fn in_the_same_pipeline_nothing_is_trusted() {
    let mut talk = Talk::wary();
    talk.sends(&[run(CODE), run(SHADOWED), run("SELECT 'a\\'"), run("SELECT pg_catalog.lower('A')"), sync()]);
    let classes: Vec<Class> = talk.notebook.0.iter().map(|entry| entry.class).collect();
    assert_eq!(classes, [Class::Unknown, Class::Unknown, Class::Unknown, Class::Read]);
}

#[test]
fn a_statement_that_was_prepared_before_is_read_again_behind_code() {
    let mut talk = Talk::wary();
    talk.client(&[parse("s", SHADOWED), sync()]);
    talk.target(&[simple(b'1'), ready(b'I')]);
    talk.ran(CODE, b'I');
    talk.asks_names(&[bind("", "s", &[])], "evil, pg_catalog", &[("s", SHADOWED)]);
    talk.client(&[bind("", "s", &[]), execute("", 0), sync()]);
    assert_eq!(talk.last(), Class::Unknown);
}

#[test]
fn an_answer_of_a_transaction_is_asked_again_behind_it() {
    let mut talk = Talk::wary();
    talk.ran("BEGIN", b'T');
    talk.ran(CODE, b'T');
    talk.asks(&[query(SHADOWED)], "public", b'T');
    talk.ran(SHADOWED, b'T');
    assert_eq!(talk.last(), Class::Read);
    // In one message with the end of the transaction it can't be asked.
    talk.client(&[query(&format!("COMMIT; {SHADOWED}"))]);
    assert_eq!(talk.last(), Class::Unknown);
    talk.target(&[complete("COMMIT"), complete("SELECT 1"), ready(b'I')]);
    talk.asks(&[query(SHADOWED)], "evil, pg_catalog", b'I');
    talk.ran(SHADOWED, b'I');
    assert_eq!(talk.last(), Class::Unknown);
}

#[test]
fn a_question_that_is_not_answered_leaves_the_settings_unknown() {
    let mut talk = Talk::wary();
    talk.ran(CODE, b'I');
    let scan = talk.client(&[query(SHADOWED)]);
    assert_eq!(scan.next, Next::Stalled);
    assert_eq!(talk.conversation.take_upward(), query(QUESTION));
    talk.silently(&[error("57014", "canceling statement"), ready(b'I')]);
    talk.ran(SHADOWED, b'I');
    assert_eq!(talk.last(), Class::Unknown);
}

#[test]
fn a_procedure_that_fails_may_have_committed_before() {
    let mut talk = Talk::wary();
    talk.client(&[query("CALL it()")]);
    talk.target(&[error("P0001", "no"), ready(b'I')]);
    talk.asks(&[query(SHADOWED)], "public", b'I');
}

/// Two statements with names, and code behind them.
fn named_before(code: &str, answer: Vec<u8>) -> Talk {
    let mut talk = Talk::wary();
    talk.client(&[parse("kept", "SELECT 1"), parse("other", "SELECT 2"), sync()]);
    talk.target(&[simple(b'1'), simple(b'1'), ready(b'I')]);
    talk.client(&[query(code)]);
    talk.target(&[answer, ready(b'I')]);
    talk
}

#[test]
fn behind_code_a_name_stands_for_what_the_target_says() {
    let mut talk = named_before(CODE, complete("SELECT 1"));
    let now = [("kept", "SELECT 1"), ("other", "DELETE FROM carts"), ("new", "DELETE FROM carts")];
    talk.asks_names(&[bind("", "kept", &[])], "public", &now);
    assert_eq!(talk.executes("kept"), (Class::Read, "SELECT 1".to_owned()));
    for name in ["other", "new"] {
        assert_eq!(talk.executes(name), (Class::Unknown, format!("(prepared statement \"{name}\")")));
        // That may have been code as well.
        talk.asks_names(&[bind("", "kept", &[])], "public", &now);
    }
    // What is prepared anew is known.
    talk.client(&[close_statement("other"), parse("other", "SELECT 3"), sync()]);
    talk.target(&[simple(b'3'), simple(b'1'), ready(b'I')]);
    assert_eq!(talk.executes("other"), (Class::Read, "SELECT 3".to_owned()));
}

#[test]
fn code_that_fails_may_have_named_something_all_the_same() {
    let mut talk = named_before(CODE, error("P0001", "no"));
    talk.asks_names(&[query("EXECUTE kept")], "public", &[("kept", "DELETE FROM carts")]);
    talk.client(&[query("EXECUTE kept")]);
    assert_eq!(talk.last(), Class::Unknown);
}

#[test]
fn where_it_cannot_be_asked_no_name_from_before_code_is_known() {
    let mut talk = Talk::wary();
    talk.client(&[parse("s", "SELECT 1"), sync()]);
    talk.target(&[simple(b'1'), ready(b'I')]);
    talk.sends(&[
        run(CODE),
        bind("", "s", &[]),
        parse("behind", "SELECT 2"),
        bind("", "behind", &[]),
        run(CODE),
        bind("", "behind", &[]),
        sync(),
    ]);
    let classes: Vec<Class> = talk.notebook.0.iter().map(|entry| entry.class).collect();
    assert_eq!(classes, [Class::Unknown, Class::Unknown, Class::Read, Class::Unknown, Class::Unknown]);
}
