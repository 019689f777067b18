mod behind_code;
mod in_transaction;
mod names_in_time;
mod stray_copy_ends;

use policy::Obligations;
use proptest::prelude::*;
use session::{Command, NotRecorded, Notice, Refusal, RefusalKind, Together, Verdict};
use trail::record::{OutcomeRecord, Params};
use vocabulary::{Class, Status};

use super::*;
use crate::facts::FactsCache;

/// Status, whether it ran, rows, SQLSTATE.
type Result = (Status, Option<bool>, Option<u64>, Option<String>);

/// What the trail would hold of one command.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    text: String,
    params: Vec<Option<String>>,
    class: Class,
    outcome: Option<Result>,
    message: Option<String>,
    not_kept: Option<u64>,
    in_transaction: bool,
    /// Rows that went to the client.
    returned: u64,
}

/// A trail in memory that refuses to hear two outcomes of one command, whether policy forbids the unknown, and how often
/// it was said that no transaction is under way.
#[derive(Default)]
struct Notebook(Vec<Entry>, bool, usize);

impl Notebook {
    fn intend(&mut self, command: &Command<'_>) -> usize {
        let show = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.0.push(Entry {
            text: show(command.text),
            params: Params::new(command.params).map(|value| value.map(show)).collect(),
            class: command.known.facts().class,
            outcome: None,
            message: None,
            not_kept: None,
            in_transaction: command.in_transaction,
            returned: 0,
        });
        self.0.len() - 1
    }

    fn refuse(
        &mut self,
        commands: &[Command<'_>],
        kind: RefusalKind,
        status: Status,
    ) -> Together<usize, Wait> {
        for command in commands {
            let at = self.intend(command);
            self.0[at].outcome = Some((status, Some(false), None, None));
        }
        Together::Refused(Refusal {
            kind,
            message: "the test refuses".into(),
            hint: "ask the test".into(),
            review: None,
            retry_after: None,
        })
    }
}

/// A command that waits in a test.
#[derive(Debug)]
struct Wait(Notice);

/// The word in a text decides: FORBIDDEN is refused, REVIEWED is held, LIMITED may return two rows, `READ_ONLY` may not
/// write.
impl Recorder for Notebook {
    type Permit = usize;
    type Hold = Wait;

    fn judge_all(
        &mut self,
        commands: &[Command<'_>],
        whole: &[u8],
    ) -> std::result::Result<Together<usize, Wait>, NotRecorded> {
        let text = String::from_utf8_lossy(whole).into_owned();
        if text.contains("FORBIDDEN") {
            return Ok(self.refuse(commands, RefusalKind::Denied, Status::Denied));
        }
        if text.contains("REVIEWED") {
            return Ok(Together::Held(Wait(Notice { message: "held".into(), hint: "wait".into() })));
        }
        Ok(Together::Permits(commands.iter().map(|command| self.intend(command)).collect()))
    }

    fn resume_all(
        &mut self,
        _hold: Wait,
        verdict: Verdict,
        commands: &[Command<'_>],
        _whole: &[u8],
    ) -> std::result::Result<Together<usize, Wait>, NotRecorded> {
        Ok(match verdict {
            Verdict::Granted => {
                Together::Permits(commands.iter().map(|command| self.intend(command)).collect())
            }
            Verdict::Lapsed => self.refuse(commands, RefusalKind::Expired, Status::Expired),
            _ => self.refuse(commands, RefusalKind::Cancelled, Status::Cancelled),
        })
    }

    fn not_run(&mut self, command: &Command<'_>, message: &str) -> std::result::Result<(), NotRecorded> {
        let at = self.intend(command);
        self.0[at].outcome = Some((Status::Cancelled, Some(false), None, None));
        self.0[at].message = Some(message.to_owned());
        Ok(())
    }

    fn acknowledge(&mut self, command: &Command<'_>) -> std::result::Result<usize, NotRecorded> {
        Ok(self.intend(command))
    }

    fn capture_rows(&mut self, _: &usize, _: &[u8]) -> std::result::Result<(), NotRecorded> {
        Ok(())
    }

    fn obligations(_: &usize) -> Option<(Obligations, String)> {
        None
    }

    fn notice(hold: &Wait) -> Option<&Notice> {
        Some(&hold.0)
    }

    fn try_permit(&mut self, command: &Command<'_>) -> std::result::Result<Option<usize>, NotRecorded> {
        let text = String::from_utf8_lossy(command.text);
        let stops = text.contains("FORBIDDEN") || text.contains("REVIEWED");
        Ok((!stops).then(|| self.intend(command)))
    }

    fn returned(&mut self, permit: &usize, rows: u64) {
        self.0[*permit].returned += rows;
    }

    fn observe(&mut self, permit: usize, outcome: OutcomeRecord<'_>) -> std::result::Result<(), NotRecorded> {
        let entry = &mut self.0[permit];
        assert!(entry.outcome.is_none(), "a second outcome of {}", entry.text);
        entry.outcome =
            Some((outcome.status, outcome.executed, outcome.rows, outcome.code.map(str::to_owned)));
        entry.message = outcome.message.map(str::to_owned);
        entry.not_kept = outcome.not_kept.map(|kept| kept.bytes);
        Ok(())
    }

    fn permits_unknown(&mut self) -> bool {
        !self.1
    }

    fn outside_transaction(&mut self) {
        self.2 += 1;
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn query(text: &str) -> Vec<u8> {
    message(b'Q', format!("{text}\0").as_bytes())
}

fn parse(name: &str, text: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{text}\0\0\0").as_bytes())
}

fn bind(portal: &str, statement: &str, values: &[&str]) -> Vec<u8> {
    let mut body = format!("{portal}\0{statement}\0\0\0").into_bytes();
    body.extend_from_slice(&u16::try_from(values.len()).unwrap().to_be_bytes());
    for value in values {
        body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend_from_slice(value.as_bytes());
    }
    body.extend_from_slice(&[0, 0]);
    message(b'B', &body)
}

fn execute(portal: &str, limit: u32) -> Vec<u8> {
    let mut body = format!("{portal}\0").into_bytes();
    body.extend_from_slice(&limit.to_be_bytes());
    message(b'E', &body)
}

fn sync() -> Vec<u8> {
    message(b'S', b"")
}

/// One command of the extended protocol.
fn run(text: &str) -> Vec<u8> {
    [parse("", text), bind("", "", &[]), execute("", 0)].concat()
}

fn close_statement(name: &str) -> Vec<u8> {
    message(b'C', format!("S{name}\0").as_bytes())
}

fn complete(tag: &str) -> Vec<u8> {
    message(b'C', format!("{tag}\0").as_bytes())
}

fn error(code: &str, text: &str) -> Vec<u8> {
    message(b'E', format!("SERROR\0VERROR\0C{code}\0M{text}\0\0").as_bytes())
}

fn ready(status: u8) -> Vec<u8> {
    message(b'Z', &[status])
}

fn row() -> Vec<u8> {
    message(b'D', &[0, 0])
}

fn simple(tag: u8) -> Vec<u8> {
    message(tag, b"")
}

/// A conversation with its notebook.
struct Talk {
    conversation: Conversation<usize, Wait>,
    notebook: Notebook,
    facts: FactsCache,
}

impl Talk {
    fn new() -> Self {
        let conversation =
            Conversation::new([("standard_conforming_strings", "on"), ("client_encoding", "UTF8")]);
        Self { conversation, notebook: Notebook::default(), facts: FactsCache::default() }
    }

    fn client(&mut self, messages: &[Vec<u8>]) -> Scan {
        let bytes = messages.concat();
        let scan = self.conversation.client(&bytes, &mut self.notebook, &mut self.facts).unwrap();
        if scan.next == Next::Bytes(1) {
            assert_eq!(scan.taken, bytes.len());
        }
        scan
    }

    fn target(&mut self, messages: &[Vec<u8>]) {
        let bytes = messages.concat();
        let scan = self.conversation.target(&bytes, &mut self.notebook).unwrap();
        assert_eq!(scan.taken, bytes.len());
    }

    /// What of these messages goes on to the target, with what the gateway adds, and what is left until it answers.
    fn sends(&mut self, messages: &[Vec<u8>]) -> (Vec<u8>, Vec<u8>) {
        let (mut forwarded, mut rest) = (Vec::new(), messages.concat());
        loop {
            let Self { conversation, notebook, facts } = self;
            let scan = conversation.client(&rest, notebook, facts).unwrap();
            forwarded.extend(rest.drain(..scan.taken));
            let Next::Edit(edit) = scan.next else { return (forwarded, rest) };
            forwarded.extend_from_slice(&edit.insert);
            rest.drain(..edit.skip);
            forwarded.extend(rest.drain(..edit.pass));
        }
    }

    /// How many bytes of these go on if they come in pieces of `size`, before the target has answered; `None` if they
    /// end the session.
    fn takes(&mut self, messages: &[u8], size: usize) -> Option<usize> {
        let (mut waiting, mut taken) = (Vec::new(), 0);
        for piece in messages.chunks(size) {
            waiting.extend_from_slice(piece);
            loop {
                let Self { conversation, notebook, facts } = self;
                let scan = conversation.client(&waiting, notebook, facts).ok()?;
                waiting.drain(..scan.taken);
                taken += scan.taken;
                match scan.next {
                    Next::Edit(edit) => {
                        waiting.drain(..edit.skip + edit.pass);
                        taken += edit.skip + edit.pass;
                    }
                    Next::Stalled => return Some(taken),
                    _ => break,
                }
            }
        }
        Some(taken)
    }

    fn outcomes(&self) -> Vec<(&str, Status, Option<u64>)> {
        self.notebook
            .0
            .iter()
            .map(|entry| {
                let (status, _, rows, _) = entry.outcome.as_ref().expect("every command has an outcome");
                (entry.text.as_str(), *status, *rows)
            })
            .collect()
    }
}

#[test]
fn a_simple_query_has_its_rows() {
    let mut talk = Talk::new();
    talk.client(&[query("SELECT 1")]);
    assert_eq!(talk.notebook.0[0].outcome, None);
    talk.target(&[simple(b'T'), row(), row(), complete("SELECT 2"), ready(b'I')]);
    assert_eq!(talk.outcomes(), [("SELECT 1", Status::Ok, Some(2))]);
    assert_eq!(talk.notebook.0[0].class, Class::Read);
}

#[test]
fn each_statement_of_a_query_has_its_own_outcome_and_the_rest_is_not_run() {
    let mut talk = Talk::new();
    talk.client(&[query("INSERT INTO t VALUES (1); SELECT 1/0; DELETE FROM t")]);
    talk.target(&[complete("INSERT 0 1"), error("22012", "division by zero"), ready(b'I')]);
    assert_eq!(
        talk.outcomes(),
        [
            ("INSERT INTO t VALUES (1)", Status::Ok, Some(1)),
            ("SELECT 1/0", Status::Error, None),
            ("DELETE FROM t", Status::Cancelled, None),
        ]
    );
    assert_eq!(talk.notebook.0[1].outcome.as_ref().unwrap().3.as_deref(), Some("22012"));
    assert_eq!(talk.notebook.0[2].outcome.as_ref().unwrap().1, Some(false));
}

#[test]
fn a_prepared_statement_has_text_and_parameters() {
    let mut talk = Talk::new();
    talk.client(&[
        parse("s", "DELETE FROM carts WHERE id = $1"),
        bind("", "s", &["42"]),
        execute("", 0),
        sync(),
    ]);
    talk.target(&[simple(b'1'), simple(b'2'), complete("DELETE 1"), ready(b'I')]);
    assert_eq!(talk.outcomes(), [("DELETE FROM carts WHERE id = $1", Status::Ok, Some(1))]);
    assert_eq!(talk.notebook.0[0].params, [Some("42".to_owned())]);
    assert_eq!(talk.notebook.0[0].class, Class::Write);
}

#[test]
fn a_portal_fetched_in_parts_is_one_command() {
    let mut talk = Talk::new();
    talk.client(&[parse("", "SELECT 1"), bind("p", "", &[]), execute("p", 2), execute("p", 2), sync()]);
    talk.target(&[
        simple(b'1'),
        simple(b'2'),
        row(),
        row(),
        simple(b's'),
        row(),
        complete("SELECT 1"),
        ready(b'T'),
    ]);
    assert_eq!(talk.outcomes(), [("SELECT 1", Status::Ok, Some(3))]);
}

#[test]
fn after_an_error_the_rest_of_the_pipeline_is_not_run() {
    let mut talk = Talk::new();
    talk.client(&[
        parse("", "SELECT 1/0"),
        bind("", "", &[]),
        execute("", 0),
        parse("x", "DELETE FROM t"),
        bind("", "x", &[]),
        execute("", 0),
        sync(),
    ]);
    talk.target(&[simple(b'1'), simple(b'2'), error("22012", "division by zero"), ready(b'I')]);
    assert_eq!(
        talk.outcomes(),
        [("SELECT 1/0", Status::Error, None), ("DELETE FROM t", Status::Cancelled, None)]
    );
    // The skipped Parse did not make a statement.
    talk.client(&[bind("", "x", &[]), sync()]);
    assert_eq!(talk.notebook.0[2].class, Class::Unknown);
}

#[test]
fn a_text_that_does_not_parse_is_recorded_with_its_error() {
    let mut talk = Talk::new();
    talk.client(&[parse("", "SELEC 1"), sync()]);
    talk.target(&[error("42601", "syntax error"), ready(b'I')]);
    assert_eq!(talk.outcomes(), [("SELEC 1", Status::Error, None)]);
    talk.client(&[query("SELEC 2")]);
    talk.target(&[error("42601", "syntax error"), ready(b'I')]);
    assert_eq!(talk.outcomes()[1], ("SELEC 2", Status::Error, None));
}

#[test]
fn a_failed_parse_of_a_taken_name_leaves_the_old_statement() {
    let mut talk = Talk::new();
    talk.client(&[parse("s", "DELETE FROM t"), sync()]);
    talk.target(&[simple(b'1'), ready(b'I')]);
    talk.client(&[parse("s", "SELECT 1"), sync()]);
    talk.target(&[error("42P05", "exists"), ready(b'I')]);
    talk.client(&[bind("", "s", &[]), execute("", 0), sync()]);
    assert_eq!(talk.notebook.0.last().unwrap().text, "DELETE FROM t");
}

#[test]
fn a_name_from_an_unanswered_segment_waits_for_the_answer() {
    let mut talk = Talk::new();
    let scan = talk.client(&[parse("s", "SELECT 1"), sync(), bind("", "s", &[]), execute("", 0), sync()]);
    assert_eq!(scan.next, Next::Stalled);
    talk.target(&[simple(b'1'), ready(b'I')]);
    let scan = talk.client(&[bind("", "s", &[]), execute("", 0), sync()]);
    assert_eq!(scan.next, Next::Bytes(1));
    assert_eq!(talk.notebook.0[0].text, "SELECT 1");
}

#[test]
fn a_closed_name_can_be_used_again_in_the_same_pipeline() {
    let mut talk = Talk::new();
    talk.client(&[parse("s", "SELECT 1"), sync()]);
    talk.target(&[simple(b'1'), ready(b'I')]);
    talk.client(&[close_statement("s"), parse("s", "SELECT 2"), bind("", "s", &[]), execute("", 0), sync()]);
    talk.target(&[simple(b'3'), simple(b'1'), simple(b'2'), complete("SELECT 1"), ready(b'I')]);
    assert_eq!(talk.outcomes(), [("SELECT 2", Status::Ok, Some(1))]);
}

#[test]
fn sql_prepare_makes_a_statement_that_bind_and_execute_know() {
    let mut talk = Talk::new();
    talk.client(&[query("PREPARE d AS DELETE FROM t")]);
    talk.target(&[complete("PREPARE"), ready(b'I')]);
    talk.client(&[query("EXECUTE d")]);
    talk.target(&[complete("DELETE 3"), ready(b'I')]);
    talk.client(&[bind("", "d", &[]), execute("", 0), sync()]);
    talk.target(&[simple(b'2'), complete("DELETE 0"), ready(b'I')]);
    assert_eq!(talk.notebook.0[1].class, Class::Write);
    assert_eq!(talk.notebook.0[2].class, Class::Write);
}

#[test]
fn copy_in_counts_what_the_target_counts_and_survives_the_early_sync() {
    let mut talk = Talk::new();
    // libpq sends a Sync behind Execute, which the target ignores if it has begun, and another behind CopyDone.
    let begin = [parse("", "COPY t FROM STDIN"), bind("", "", &[]), execute("", 0)].concat();
    let (forwarded, rest) = talk.sends(&[begin.clone(), sync()]);
    assert_eq!((forwarded, &rest), ([begin, simple(b'H')].concat(), &sync()), "it waits for what it means");
    talk.target(&[simple(b'1'), simple(b'2'), message(b'G', &[0, 0, 0])]);
    let data = [message(b'd', b"1\n2\n"), simple(b'c'), sync()];
    assert_eq!(talk.sends(&[rest, data.concat()]).0, data.concat());
    talk.target(&[complete("COPY 2"), ready(b'I')]);
    talk.client(&[query("SELECT 1")]);
    talk.target(&[row(), complete("SELECT 1"), ready(b'I')]);
    assert_eq!(
        talk.outcomes(),
        [("COPY t FROM STDIN", Status::Ok, Some(2)), ("SELECT 1", Status::Ok, Some(1))]
    );
    assert!(!talk.conversation.is_waiting());
}

#[test]
fn copy_data_sent_before_the_target_asks_for_it_is_understood() {
    let mut talk = Talk::new();
    talk.client(&[query("COPY t FROM STDIN"), message(b'd', b"1\n"), simple(b'c')]);
    talk.target(&[message(b'G', &[0, 0, 0]), complete("COPY 1"), ready(b'I')]);
    talk.client(&[query("SELECT 1")]);
    talk.target(&[complete("SELECT 0"), ready(b'I')]);
    assert_eq!(
        talk.outcomes(),
        [("COPY t FROM STDIN", Status::Ok, Some(1)), ("SELECT 1", Status::Ok, Some(0))]
    );
}

#[test]
fn rows_that_were_written_did_not_go_to_the_client() {
    let mut talk = Talk::new();
    talk.client(&[query("UPDATE t SET a = 1")]);
    talk.target(&[complete("UPDATE 137"), ready(b'I')]);
    talk.client(&[query("UPDATE t SET a = 1 RETURNING a")]);
    talk.target(&[simple(b'T'), row(), row(), complete("UPDATE 2"), ready(b'I')]);
    talk.client(&[query("COPY t FROM STDIN")]);
    talk.target(&[message(b'G', &[0, 0, 0])]);
    talk.client(&[message(b'd', b"1\n2\n"), simple(b'c')]);
    talk.target(&[complete("COPY 5000"), ready(b'I')]);
    talk.client(&[query("COPY t TO STDOUT")]);
    let line = message(b'd', b"1\n");
    talk.target(&[
        message(b'H', &[0, 0, 0]),
        line.clone(),
        line,
        simple(b'c'),
        complete("COPY 2"),
        ready(b'I'),
    ]);
    let counted: Vec<_> = talk.notebook.0.iter().map(|entry| entry.returned).collect();
    assert_eq!(counted, [0, 2, 0, 2]);
    let rows: Vec<_> = talk.outcomes().iter().map(|(_, _, rows)| *rows).collect();
    assert_eq!(rows, [Some(137), Some(2), Some(5000), Some(2)]);
}

#[test]
fn an_empty_query_is_recorded() {
    let mut talk = Talk::new();
    talk.client(&[query(" -- nothing")]);
    talk.target(&[simple(b'I'), ready(b'I')]);
    assert_eq!(talk.outcomes(), [(" -- nothing", Status::Ok, None)]);
}

#[test]
fn more_completions_than_statements_are_recorded_too() {
    let mut talk = Talk::new();
    talk.client(&[query("SELEKT; 1")]);
    talk.target(&[complete("SELECT 1"), complete("DELETE 2"), ready(b'I')]);
    assert_eq!(talk.outcomes(), [("SELEKT; 1", Status::Ok, Some(1)), ("SELEKT; 1", Status::Ok, Some(2))]);
}

#[test]
fn a_cancelled_command_is_cancelled() {
    let mut talk = Talk::new();
    talk.client(&[query("SELECT pg_sleep(9)")]);
    talk.target(&[error("57014", "canceling statement due to user request"), ready(b'I')]);
    assert_eq!(talk.outcomes()[0].1, Status::Cancelled);
}

#[test]
fn what_is_under_way_when_the_target_is_lost_is_unknown() {
    let mut talk = Talk::new();
    talk.client(&[query("DELETE FROM t")]);
    let Talk { conversation, notebook, .. } = &mut talk;
    conversation.abandon(notebook, "the target closed the connection").unwrap();
    assert_eq!(talk.outcomes()[0].1, Status::Unknown);
    assert_eq!(talk.notebook.0[0].outcome.as_ref().unwrap().1, None);
}

#[test]
fn a_target_that_ends_the_session_after_an_error_adds_no_command() {
    let mut talk = Talk::new();
    talk.client(&[query("COPY t FROM STDIN")]);
    let fatal = message(b'E', b"SFATAL\0VFATAL\0C08P01\0Msynchronization was lost\0\0");
    talk.target(&[error("08006", "unexpected EOF on client connection"), fatal]);
    assert_eq!(talk.outcomes(), [("COPY t FROM STDIN", Status::Error, None)]);
}

#[test]
fn a_client_that_did_not_wait_is_said_so() {
    let mut talk = Talk::new();
    talk.client(&[query("DELETE FROM t")]);
    talk.conversation.client_left();
    talk.target(&[complete("DELETE 3"), ready(b'I')]);
    assert_eq!(talk.outcomes(), [("DELETE FROM t", Status::Ok, Some(3))]);
    assert_eq!(talk.notebook.0[0].message.as_deref(), Some(running::CLIENT_GONE));
}

#[test]
fn a_portal_that_is_never_executed_is_said_so() {
    let mut talk = Talk::new();
    talk.client(&[parse("", "SELECT 1"), bind("", "", &[]), sync()]);
    talk.target(&[simple(b'1'), simple(b'2'), ready(b'I')]);
    assert_eq!(talk.notebook.0[0].message.as_deref(), Some(running::NEVER_EXECUTED));
}

#[test]
fn a_bind_beyond_what_is_kept_passes_on_with_a_hash() {
    let mut talk = Talk::new();
    talk.client(&[parse("", "INSERT INTO t VALUES ($1)")]);
    let long = "x".repeat(3 * limits::CAPTURED_PARAMETER_BYTES);
    let whole = [bind("", "", &[&long]), execute("", 0), sync()].concat();
    // It is passed on in pieces, as it comes.
    let mut waiting = Vec::new();
    for piece in whole.chunks(100_000) {
        waiting.extend_from_slice(piece);
        let Talk { conversation, notebook, facts } = &mut talk;
        let scan = conversation.client(&waiting, notebook, facts).unwrap();
        waiting.drain(..scan.taken);
        assert!(waiting.len() <= limits::CAPTURED_PARAMETER_BYTES + 100_005);
    }
    talk.target(&[simple(b'1'), simple(b'2'), complete("INSERT 0 1"), ready(b'I')]);
    let kept = talk.notebook.0[0].not_kept.unwrap();
    assert!(kept > 2 * limits::CAPTURED_PARAMETER_BYTES as u64);
}

#[test]
fn bad_lengths_and_types_end_the_session() {
    for bytes in [
        vec![b'Q', 0, 0, 0, 3],
        vec![b'Q', 0xff, 0xff, 0xff, 0xff],
        message(b'y', b""),
        message(b'p', b"x\0"),
    ] {
        let mut talk = Talk::new();
        let Talk { conversation, notebook, facts } = &mut talk;
        let fault = conversation.client(&bytes, notebook, facts).unwrap_err();
        assert!(matches!(fault, Fault::Client { code: "08P01", .. }), "{fault:?}");
    }
}

/// Messages of every sort, well-formed and not.
fn some_messages() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(query("SELECT 1; INSERT INTO t VALUES (1)")),
        Just(query("COPY t FROM STDIN")),
        Just(parse("s", "SELECT $1::int")),
        Just(parse("", "DELETE FROM t")),
        Just(bind("", "s", &["1"])),
        Just(bind("p", "", &[])),
        Just(execute("", 0)),
        Just(execute("p", 1)),
        Just(close_statement("s")),
        Just(sync()),
        Just(simple(b'c')),
        Just(message(b'd', b"1\n")),
        Just(message(b'D', b"Ss\0")),
        Just(message(b'H', b"")),
        prop::collection::vec(any::<u8>(), 0..12),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

fn some_answers() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(simple(b'1')),
        Just(simple(b'2')),
        Just(simple(b'3')),
        Just(simple(b'T')),
        Just(simple(b'n')),
        Just(row()),
        Just(complete("SELECT 1")),
        Just(complete("INSERT 0 1")),
        Just(simple(b's')),
        Just(simple(b'I')),
        Just(error("42601", "no")),
        Just(ready(b'I')),
        Just(ready(b'T')),
        Just(message(b'G', &[0, 0, 0])),
        Just(message(b'H', &[0, 0, 0])),
        Just(message(b'S', b"search_path\0public\0")),
        Just(message(b't', &[0, 1, 0, 0, 0, 23])),
        prop::collection::vec(any::<u8>(), 0..12),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// Whatever both sides say, nothing panics, and every command has exactly one outcome in the end.
    #[test]
    fn every_command_has_one_outcome(turns in prop::collection::vec((some_messages(), some_answers()), 1..6)) {
        let mut talk = Talk::new();
        for (messages, answers) in turns {
            let Talk { conversation, notebook, facts } = &mut talk;
            if conversation.client(&messages, notebook, facts).is_err() || conversation.target(&answers, notebook).is_err() {
                break;
            }
        }
        let Talk { conversation, notebook, .. } = &mut talk;
        conversation.abandon(notebook, "over").unwrap();
        prop_assert!(talk.notebook.0.iter().all(|entry| entry.outcome.is_some()));
    }

    /// Where reads cut the stream makes no difference.
    #[test]
    fn cuts_make_no_difference(messages in some_messages(), size in 1usize..40) {
        let (mut whole, mut cut) = (Talk::new(), Talk::new());
        let first = whole.takes(&messages, messages.len().max(1));
        prop_assert_eq!(cut.takes(&messages, size), first);
        prop_assert_eq!(&cut.notebook.0, &whole.notebook.0);
    }
}

/// What a scan changes in the stream.
fn edit(scan: &Scan) -> &Edit {
    match &scan.next {
        Next::Edit(edit) => edit,
        other => panic!("{other:?} is no edit"),
    }
}

const MUST_FAIL: &str = "TRAILGATE REFUSED A COMMAND";

#[test]
fn a_refused_query_fails_at_the_target_and_the_client_hears_why() {
    let mut talk = Talk::new();
    let refused = query("SELECT 'FORBIDDEN'");
    let scan = talk.client(&[query("SELECT 1")]);
    assert_eq!(scan.next, Next::Bytes(1));
    talk.target(&[complete("SELECT 1"), ready(b'T')]);
    let scan = talk.client(std::slice::from_ref(&refused));
    assert_eq!((scan.taken, edit(&scan).skip, edit(&scan).pass), (0, refused.len(), 0));
    assert_eq!(edit(&scan).insert, query(MUST_FAIL));
    let scan = talk.conversation.target(&error("42601", "syntax error"), &mut talk.notebook).unwrap();
    let said = String::from_utf8_lossy(&edit(&scan).insert).into_owned();
    assert!(
        said.contains("42501") && said.contains("the test refuses") && said.contains("ask the test"),
        "{said}"
    );
    // The status behind it is the target's own.
    talk.target(&[ready(b'E')]);
    assert_eq!(talk.outcomes().last().map(|outcome| outcome.1), Some(Status::Denied));
    assert!(!talk.conversation.is_waiting());
}

#[test]
fn behind_a_refusal_nothing_of_the_segment_reaches_the_target() {
    let mut talk = Talk::new();
    let head = [parse("", "SELECT 1"), bind("", "", &[]), execute("", 0), parse("", "SELECT 'FORBIDDEN'")];
    let refused = bind("", "", &[]);
    let tail = [execute("", 0), parse("", "DELETE FROM carts"), bind("", "", &[]), execute("", 0)];
    let all = [head.concat(), refused.clone(), tail.concat(), sync()].concat();
    let (forwarded, _) = talk.sends(&[all]);
    let must_fail = parse("trailgate.refused", MUST_FAIL);
    assert_eq!(forwarded, [head.concat(), must_fail, sync()].concat());
    // The first is not answered yet; the second is refused, the third was behind it.
    let status = |at: usize| talk.notebook.0[at].outcome.as_ref().map(|outcome| outcome.0);
    assert_eq!([status(0), status(1), status(2)], [None, Some(Status::Denied), Some(Status::Cancelled)]);
    assert_eq!(talk.notebook.0[2].text, "DELETE FROM carts");
    talk.target(&[simple(b'1'), simple(b'2'), complete("SELECT 1"), simple(b'1')]);
    let scan = talk.conversation.target(&error("42601", "syntax error"), &mut talk.notebook).unwrap();
    assert!(String::from_utf8_lossy(&edit(&scan).insert).contains("42501"));
    talk.target(&[ready(b'I')]);
    assert_eq!(talk.outcomes()[0].1, Status::Ok);
    assert!(!talk.conversation.is_waiting());
}

#[test]
fn a_held_message_stays_until_there_is_a_verdict() {
    for (verdict, code) in
        [(Verdict::Granted, None), (Verdict::Lapsed, Some("TG001")), (Verdict::Cancelled, Some("57014"))]
    {
        let mut talk = Talk::new();
        let held = query("DELETE FROM carts /* REVIEWED */");
        let scan = talk.client(std::slice::from_ref(&held));
        assert_eq!((scan.taken, scan.next), (0, Next::Held));
        let notice = talk.conversation.take_asides();
        assert!(notice.starts_with(b"N") && String::from_utf8_lossy(&notice).contains("held"));
        // Looking again changes nothing.
        assert_eq!(talk.client(std::slice::from_ref(&held)).next, Next::Held);
        assert!(talk.notebook.0.is_empty() && talk.conversation.take_asides().is_empty());
        talk.conversation.answered(verdict);
        let scan = talk.client(std::slice::from_ref(&held));
        match code {
            None => {
                assert_eq!((scan.taken, scan.next), (held.len(), Next::Bytes(1)));
                talk.target(&[complete("DELETE 3"), ready(b'I')]);
                assert_eq!(talk.outcomes(), [("DELETE FROM carts /* REVIEWED */", Status::Ok, Some(3))]);
            }
            Some(code) => {
                assert_eq!(edit(&scan).insert, query(MUST_FAIL));
                let scan = talk.conversation.target(&error("42601", "no"), &mut talk.notebook).unwrap();
                assert!(String::from_utf8_lossy(&edit(&scan).insert).contains(code));
                talk.target(&[ready(b'I')]);
            }
        }
        assert!(!talk.conversation.is_waiting());
    }
}

#[test]
fn a_command_waits_with_its_hold_until_all_before_it_is_answered() {
    let mut talk = Talk::new();
    let first = query("BEGIN");
    let second = query("DELETE FROM carts /* REVIEWED */");
    let scan = talk.client(&[first.clone(), second.clone()]);
    assert_eq!((scan.taken, scan.next), (first.len(), Next::Stalled));
    talk.target(&[complete("BEGIN"), ready(b'T')]);
    assert_eq!(talk.client(std::slice::from_ref(&second)).next, Next::Held);
}

#[test]
fn one_refused_statement_keeps_all_of_its_message_from_running() {
    let mut talk = Talk::new();
    let message = query("DELETE FROM a; SELECT 'FORBIDDEN'; SELECT 2");
    let scan = talk.client(std::slice::from_ref(&message));
    assert_eq!((scan.taken, edit(&scan).skip), (0, message.len()));
    assert_eq!(talk.notebook.0.len(), 3);
}

#[test]
fn a_target_that_takes_what_must_fail_ends_the_session() {
    let mut talk = Talk::new();
    talk.client(&[query("SELECT 'FORBIDDEN'")]);
    let taken = talk.conversation.target(&complete("SELECT 1"), &mut talk.notebook);
    assert!(matches!(taken, Err(Fault::Target(_))));
}
