//! Behind code only the target knows what the settings are.

use classify::postgres::QUESTION;

use super::*;

const CODE: &str = "SELECT somebodys()";
const SHADOWED: &str = "SELECT lower('A')";

/// One value, as the target answers the question.
fn value(text: &str) -> Vec<u8> {
    let mut body = vec![0, 1];
    body.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
    body.extend_from_slice(text.as_bytes());
    [simple(b'T'), message(b'D', &body), complete("SHOW")].concat()
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
        let scan = self.client(messages);
        assert_eq!(scan, Scan { taken: 0, next: Next::Stalled });
        assert_eq!(self.conversation.take_upward(), query(QUESTION));
        assert_eq!(self.client(messages).next, Next::Stalled, "it waits for the answer");
        self.silently(&[value(path), value("none"), ready(status)]);
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
    let run = |text| [parse("", text), bind("", "", &[]), execute("", 0)].concat();
    talk.client(&[
        run(CODE),
        run(SHADOWED),
        run("SELECT 'a\\'"),
        run("SELECT pg_catalog.lower('A')"),
        sync(),
    ]);
    let classes: Vec<Class> = talk.notebook.0.iter().map(|entry| entry.class).collect();
    assert_eq!(classes, [Class::Unknown, Class::Unknown, Class::Unknown, Class::Read]);
}

#[test]
fn a_statement_that_was_prepared_before_is_read_again_behind_code() {
    let mut talk = Talk::wary();
    talk.client(&[parse("s", SHADOWED), sync()]);
    talk.target(&[simple(b'1'), ready(b'I')]);
    talk.ran(CODE, b'I');
    talk.asks(&[bind("", "s", &[])], "evil, pg_catalog", b'I');
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
