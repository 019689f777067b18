//! The command half of a session, fed as a connection would feed it.

use postgres::conversation::{Conversation, Fault, Next, Recorder, limits};
use postgres::facts::FactsCache;
use session::{Command, NotRecorded, Notice, Refusal, RefusalKind, Together, Verdict};
use trail::record::{NotKept, OutcomeRecord, Params};
use vocabulary::{Class, Status};

/// Most turns of one conversation; more of them find nothing that these do not.
const MAX_TURNS: usize = 64;

/// What the trail would hold of one command.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    text: Vec<u8>,
    params: Vec<u8>,
    class: Class,
    in_transaction: bool,
    outcome: Option<Outcome>,
}

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    status: Status,
    executed: Option<bool>,
    rows: Option<u64>,
    bytes: (u64, u64),
    code: Option<String>,
    message: Option<String>,
    not_kept: Option<NotKept>,
}

/// A trail in memory that refuses to hear two outcomes of one command.
#[derive(Debug, Default, PartialEq, Eq)]
struct Notebook(Vec<Entry>);

impl Notebook {
    fn intend(&mut self, command: &Command<'_>) -> usize {
        let mut params = Params::new(command.params);
        params.by_ref().for_each(drop);
        assert!(params.is_whole(), "parameters that can't be read back");
        self.0.push(Entry {
            text: command.text.to_vec(),
            params: command.params.to_vec(),
            class: command.known.facts().class,
            in_transaction: command.in_transaction,
            outcome: None,
        });
        self.0.len() - 1
    }
}

/// A command that waits.
struct Wait(Notice);

/// Commands with an odd number of bytes in their text are stopped: every other of those waits.
fn stops(text: &[u8]) -> bool {
    text.len() % 2 == 1
}

impl Recorder for Notebook {
    type Permit = usize;
    type Hold = Wait;

    fn judge_all(
        &mut self,
        commands: &[Command<'_>],
        whole: &[u8],
    ) -> Result<Together<usize, Wait>, NotRecorded> {
        if !stops(whole) {
            return Ok(Together::Permits(commands.iter().map(|command| self.intend(command)).collect()));
        }
        if whole.len() % 4 == 1 {
            let notice = Notice { message: "held".to_owned(), hint: String::new() };
            return Ok(Together::Held(Wait(notice)));
        }
        for command in commands {
            self.not_run(command, "refused")?;
        }
        Ok(Together::Refused(refusal()))
    }

    fn resume_all(
        &mut self,
        _: Wait,
        verdict: Verdict,
        commands: &[Command<'_>],
        _: &[u8],
    ) -> Result<Together<usize, Wait>, NotRecorded> {
        if verdict == Verdict::Granted {
            return Ok(Together::Permits(commands.iter().map(|command| self.intend(command)).collect()));
        }
        for command in commands {
            self.not_run(command, "refused")?;
        }
        Ok(Together::Refused(refusal()))
    }

    fn not_run(&mut self, command: &Command<'_>, message: &str) -> Result<(), NotRecorded> {
        let place = self.intend(command);
        let outcome = OutcomeRecord {
            executed: Some(false),
            message: Some(message),
            ..OutcomeRecord::bare(
                vocabulary::SessionId::from_bytes([0; 16]),
                0,
                vocabulary::Timestamp(0),
                Status::Cancelled,
            )
        };
        self.observe(place, outcome)
    }

    fn acknowledge(&mut self, command: &Command<'_>) -> Result<usize, NotRecorded> {
        Ok(self.intend(command))
    }

    fn capture_rows(&mut self, _: &usize, _: &[u8]) -> Result<(), NotRecorded> {
        Ok(())
    }

    fn obligations(_: &usize) -> Option<(policy::Obligations, String)> {
        None
    }

    fn notice(hold: &Wait) -> Option<&Notice> {
        Some(&hold.0)
    }

    fn try_permit(&mut self, command: &Command<'_>) -> Result<Option<usize>, NotRecorded> {
        Ok((!stops(command.text)).then(|| self.intend(command)))
    }

    fn observe(&mut self, permit: usize, outcome: OutcomeRecord<'_>) -> Result<(), NotRecorded> {
        let entry = &mut self.0[permit];
        assert!(entry.outcome.is_none(), "a second outcome of {entry:?}");
        entry.outcome = Some(Outcome {
            status: outcome.status,
            executed: outcome.executed,
            rows: outcome.rows,
            bytes: (outcome.bytes_in, outcome.bytes_out),
            code: outcome.code.map(str::to_owned),
            message: outcome.message.map(str::to_owned),
            not_kept: outcome.not_kept,
        });
        Ok(())
    }

    fn permits_unknown(&mut self) -> bool {
        true
    }

    fn outside_transaction(&mut self) {}
}

fn refusal() -> Refusal {
    Refusal {
        kind: RefusalKind::Denied,
        message: "refused".to_owned(),
        hint: String::new(),
        review: None,
        retry_after: None,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Target,
}

/// A session whose bytes come in pieces.
struct Session {
    conversation: Conversation<usize, Wait>,
    notebook: Notebook,
    facts: FactsCache,
    /// Bytes that were read and not taken.
    client: Vec<u8>,
    target: Vec<u8>,
    taken: [usize; 2],
    /// Commands that waited.
    holds: u64,
    finished: bool,
}

impl Session {
    fn new() -> Self {
        let parameters = [("standard_conforming_strings", "on"), ("client_encoding", "UTF8")];
        Self {
            conversation: Conversation::new(parameters),
            notebook: Notebook::default(),
            facts: FactsCache::default(),
            client: Vec::new(),
            target: Vec::new(),
            taken: [0, 0],
            holds: 0,
            finished: false,
        }
    }

    /// Bytes of one side arrive, and are scanned.
    fn read(&mut self, side: Side, bytes: &[u8]) -> Result<(), Fault> {
        let waiting = match side {
            Side::Client => &mut self.client,
            Side::Target => &mut self.target,
        };
        waiting.extend_from_slice(bytes);
        if waiting.is_empty() || (side == Side::Client && self.finished) {
            return Ok(());
        }
        loop {
            let scan = match side {
                Side::Client => self.conversation.client(waiting, &mut self.notebook, &mut self.facts)?,
                Side::Target => self.conversation.target(waiting, &mut self.notebook)?,
            };
            assert!(scan.taken <= waiting.len());
            waiting.drain(..scan.taken);
            self.taken[usize::from(side == Side::Target)] += scan.taken;
            match scan.next {
                // With as much as there is, the scan would have gone on.
                Next::Bytes(wanted) => {
                    assert!(wanted > waiting.len(), "{wanted} bytes are there");
                    assert!(wanted <= limits::MAX_ANSWER_BYTES + 5);
                }
                // Else it would wait for ever.
                Next::Stalled => assert!(self.conversation.is_waiting(), "stalled, and no answer is owed"),
                Next::Held => {
                    self.holds += 1;
                    let verdict =
                        if self.holds.is_multiple_of(2) { Verdict::Granted } else { Verdict::Lapsed };
                    self.conversation.answered(verdict);
                    continue;
                }
                Next::Edit(edit) => {
                    assert!(edit.skip + edit.pass <= waiting.len());
                    waiting.drain(..edit.skip + edit.pass);
                    self.taken[usize::from(side == Side::Target)] += edit.pass;
                    if !waiting.is_empty() {
                        continue;
                    }
                }
                Next::Finished => self.finished = true,
            }
            break;
        }
        Ok(())
    }

    /// Plays all turns, each in pieces of at most `size` bytes, and ends the session.
    fn play(turns: &[(Side, &[u8])], size: usize) -> (Notebook, [usize; 2], Option<Fault>) {
        let mut session = Self::new();
        let fault = turns.iter().find_map(|(side, bytes)| session.turn(*side, bytes, size).err());
        let Self { mut conversation, mut notebook, taken, .. } = session;
        conversation.abandon(&mut notebook, "over").expect("a notebook takes everything");
        (notebook, taken, fault)
    }

    fn turn(&mut self, side: Side, bytes: &[u8], size: usize) -> Result<(), Fault> {
        for piece in bytes.chunks(size) {
            self.read(side, piece)?;
        }
        // An answer may let a stalled client go on.
        if side == Side::Target { self.read(Side::Client, &[]) } else { Ok(()) }
    }
}

fn check(turns: &[(Side, &[u8])]) {
    let whole = Session::play(turns, usize::MAX);
    assert!(
        whole.0.0.iter().all(|entry| entry.outcome.is_some()),
        "a command without an outcome: {:?}",
        whole.0
    );
    let length: usize = turns.iter().map(|(_, bytes)| bytes.len()).sum();
    // Byte by byte costs the square of the length.
    let sizes = if length <= 2048 { [1, 7] } else { [61, 1031] };
    for size in sizes {
        let cut = Session::play(turns, size);
        assert_eq!(cut.0, whole.0, "in pieces of {size} bytes");
        assert_eq!(cut.2, whole.2, "in pieces of {size} bytes");
        if whole.2.is_none() {
            assert_eq!(cut.1, whole.1, "in pieces of {size} bytes");
        }
    }
}

/// What a client sends after login, and nobody answers: where reads cut the stream makes no difference, and every
/// command has one outcome in the end.
pub fn client_messages(data: &[u8]) {
    check(&[(Side::Client, data)]);
}

/// A whole session: turns of a side (`C` for the client, `T` for the target; any other byte by its lowest bit), a length
/// of two bytes, big-endian, and that many bytes. Every command has one outcome whatever both sides say, and where reads
/// cut their streams makes no difference.
pub fn conversation(data: &[u8]) {
    let mut turns = Vec::new();
    let mut rest = data;
    while let Some((&[side, high, low], after)) = rest.split_first_chunk::<3>()
        && turns.len() < MAX_TURNS
    {
        let length = usize::from(u16::from_be_bytes([high, low])).min(after.len());
        let (bytes, after) = after.split_at(length);
        turns.push((if side & 1 == 1 { Side::Client } else { Side::Target }, bytes));
        rest = after;
    }
    check(&turns);
}
