//! PostgreSQL ignores the end of a COPY that it is not reading: what comes behind it is answered as ever.

use super::*;

const COPY: &str = "COPY t FROM STDIN";

impl Talk {
    /// A query behind whatever was said: its rows and its end are its own.
    fn goes_on(&mut self) {
        self.client(&[query("SELECT 7")]);
        self.target(&[simple(b'T'), row(), row(), complete("SELECT 2"), ready(b'I')]);
        assert_eq!(self.outcomes().last(), Some(&("SELECT 7", Status::Ok, Some(2))));
        assert!(!self.conversation.is_waiting());
    }
}

#[test]
fn one_that_nobody_asked_for_shifts_nothing() {
    for stray in [simple(b'c'), message(b'f', b"never mind\0")] {
        let mut talk = Talk::new();
        talk.client(std::slice::from_ref(&stray));
        assert!(!talk.conversation.is_waiting());
        talk.goes_on();
        // Behind something that is not answered yet, and in the middle of a pipeline.
        talk.client(&[query("SELECT 1"), stray.clone()]);
        talk.target(&[row(), complete("SELECT 1"), ready(b'I')]);
        talk.goes_on();
        let run = [parse("", "SELECT 1"), bind("", "", &[]), stray.clone(), execute("", 0)].concat();
        talk.client(&[run.clone(), stray.clone(), run, sync(), stray.clone(), query("SELECT 1")]);
        let ran = [simple(b'1'), simple(b'2'), row(), complete("SELECT 1")].concat();
        talk.target(&[ran.clone(), ran, ready(b'I'), row(), complete("SELECT 1"), ready(b'I')]);
        assert!(talk.outcomes().iter().all(|(_, status, rows)| *status == Status::Ok && rows.is_some()));
        talk.goes_on();
    }
}

#[test]
fn the_end_of_a_copy_that_failed_meanwhile_shifts_nothing() {
    let mut talk = Talk::new();
    talk.client(&[query(COPY)]);
    talk.target(&[message(b'G', &[0, 0, 0])]);
    talk.client(&[message(b'd', b"x\n")]);
    talk.target(&[error("22P02", "invalid input"), ready(b'I')]);
    talk.client(&[message(b'd', b"y\n"), simple(b'c')]);
    talk.goes_on();
    // With everything sent before the target said a word, and in the extended protocol.
    talk.client(&[query(COPY), message(b'd', b"x\n"), simple(b'c')]);
    talk.target(&[error("42P01", "no such table"), ready(b'I')]);
    assert!(!talk.conversation.is_waiting());
    talk.goes_on();
    talk.sends(&[run(COPY), sync()]);
    talk.target(&[simple(b'1'), simple(b'2'), message(b'G', &[0, 0, 0])]);
    assert_eq!(talk.sends(&[sync()]), (vec![], vec![]), "it is ignored, so nobody hears of it");
    talk.target(&[error("22P02", "invalid input")]);
    talk.client(&[simple(b'c'), sync()]);
    talk.target(&[ready(b'I')]);
    talk.goes_on();
}

#[test]
fn a_refusal_behind_one_is_still_the_gateways() {
    let mut talk = Talk::new();
    talk.client(&[query("SELECT 1"), simple(b'c')]);
    talk.target(&[row(), complete("SELECT 1"), ready(b'I')]);
    talk.client(&[simple(b'c'), query("SELECT 'FORBIDDEN'")]);
    let scan = talk.conversation.target(&error("42601", "syntax error"), &mut talk.notebook).unwrap();
    assert!(String::from_utf8_lossy(&edit(&scan).insert).contains("the test refuses"));
    talk.target(&[ready(b'I')]);
    talk.goes_on();
}

#[test]
fn each_copy_of_a_query_takes_one_end_that_was_sent_ahead() {
    let mut talk = Talk::new();
    let ahead = [message(b'd', b"1\n"), simple(b'c')].concat();
    talk.client(&[query(&format!("{COPY}; {COPY}; SELECT 1")), ahead.clone(), ahead]);
    let begins = message(b'G', &[0, 0, 0]);
    talk.target(&[begins.clone(), complete("COPY 1"), begins.clone(), complete("COPY 1")]);
    talk.target(&[row(), complete("SELECT 1"), ready(b'I')]);
    assert!(talk.outcomes().iter().all(|(_, status, rows)| *status == Status::Ok && *rows == Some(1)));
    talk.goes_on();
    // One is there, for the second the client waits until it is asked.
    talk.client(&[query(&format!("{COPY}; {COPY}")), simple(b'c')]);
    talk.target(&[begins.clone(), complete("COPY 0"), begins]);
    talk.client(&[simple(b'c')]);
    talk.target(&[complete("COPY 0"), ready(b'I')]);
    talk.goes_on();
}

/// Everything at once, to a target that begins to copy and fails before it reads on: a COPY into a view. Then it is the
/// first Sync that it answers.
#[test]
fn a_sync_counts_once_whenever_the_copy_fails() {
    let all = [run(COPY), sync(), message(b'd', b"1\n"), simple(b'c'), sync(), query("SELECT 7")].concat();
    let begins = [simple(b'1'), simple(b'2'), message(b'G', &[0, 0, 0])].concat();
    let fails = error("42809", "cannot copy to view");
    for at_once in [true, false] {
        let mut talk = Talk::new();
        let (_, mut rest) = talk.sends(std::slice::from_ref(&all));
        talk.target(std::slice::from_ref(&begins));
        let mut sent = Vec::new();
        if !at_once {
            (sent, rest) = talk.sends(&[rest]);
            assert!(rest.is_empty());
        }
        talk.target(std::slice::from_ref(&fails));
        sent.extend(talk.sends(&[rest]).0);
        // As many answers as Syncs have gone on.
        let syncs = sent.windows(5).filter(|part| **part == *sync()).count();
        assert_eq!(syncs, if at_once { 2 } else { 1 });
        talk.target(&vec![ready(b'I'); syncs]);
        talk.target(&[simple(b'T'), row(), row(), complete("SELECT 2"), ready(b'I')]);
        assert_eq!(talk.outcomes().last(), Some(&("SELECT 7", Status::Ok, Some(2))));
        assert!(!talk.conversation.is_waiting());
    }
}

#[test]
fn what_is_not_understood_may_be_a_copy() {
    let mut talk = Talk::new();
    let (forwarded, rest) = talk.sends(&[run("COPYING t FROM STDIN"), sync()]);
    assert!(forwarded.ends_with(&simple(b'H')), "its answer comes without a Sync");
    assert_eq!(rest, sync());
    talk.target(&[simple(b'1'), simple(b'2'), complete("COPYING")]);
    assert_eq!(talk.sends(&[rest]).0, sync());
    talk.target(&[ready(b'I')]);
    // What fails before it is executed waits for the Sync.
    let (_, rest) = talk.sends(&[run("COPYING t FROM STDIN"), sync()]);
    talk.target(&[error("42601", "syntax error")]);
    assert_eq!(talk.sends(&[rest]).0, sync());
    talk.target(&[ready(b'I')]);
    talk.goes_on();
}
