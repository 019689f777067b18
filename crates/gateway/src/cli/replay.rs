//! `trailgate trail replay SESSION`: a recorded terminal, played or written out.

mod paint;

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use trail::CaptureField;
use vocabulary::{EntryId, SessionId};

use super::args::{Replay, Shared};
use super::{Failure, captured, output, terminal, trail as listing};
use crate::client::Client;
use paint::{Filter, RESTORE};

/// Longest line of a recording that is read. The gateway writes none that is near it.
const MAX_LINE_BYTES: usize = 64 << 20;

/// Plays what was recorded in a session, or writes it out as an asciicast.
///
/// # Errors
/// [`Failure`] if there is nothing to play, or it can't be read.
pub async fn run(shared: &Shared, client: &Client, data: &Path, asked: &Replay) -> Result<(), Failure> {
    let recordings = recordings(shared, client, data, asked.session).await?;
    let Some(wanted) = asked.number.checked_sub(1).and_then(|index| recordings.get(index)) else {
        return Err(match recordings.len() {
            0 => Failure::new(
                format!("nothing was recorded in session {}", asked.session),
                format!(
                    "only terminals are recorded, and a recording can be played once it is over: `trailgate trail list --session {}` shows what was run",
                    asked.session
                ),
            ),
            count => Failure::new(
                format!("session {} has {count} recordings", asked.session),
                format!("--number says which, from 1 to {count}"),
            ),
        });
    };
    if recordings.len() > 1 {
        eprintln!("recording {} of {}: --number shows another", asked.number, recordings.len());
    }
    if asked.export.is_some() {
        return export(shared, client, data, *wanted, asked.output.as_deref()).await;
    }
    // The whole of it first: while it plays, nothing has to come from elsewhere.
    let mut player = Player::new(asked);
    let mut cast = Vec::new();
    captured::each(shared, client, data, *wanted, CaptureField::Recording, |piece| {
        cast.extend_from_slice(piece);
        Ok(true)
    })
    .await?;
    let played = tokio::select! {
        played = player.play(&cast) => played.map(|()| true),
        _ = tokio::signal::ctrl_c() => Ok(false),
    };
    // Whatever the recording has left the terminal in: colours, another screen, no cursor.
    if std::io::stdout().is_terminal() {
        output::bytes(RESTORE.as_bytes())?;
    }
    output::line("")?;
    if played? { Ok(()) } else { std::process::exit(130) }
}

/// Writes a recording out, as it was recorded.
async fn export(
    shared: &Shared,
    client: &Client,
    data: &Path,
    id: EntryId,
    path: Option<&Path>,
) -> Result<(), Failure> {
    let Some(path) = path else {
        return captured::each(shared, client, data, id, CaptureField::Recording, |piece| {
            output::bytes(piece).map(|()| true)
        })
        .await;
    };
    let failed = |error: &std::io::Error| Failure::file("write", path, error);
    // What was typed is in it, passwords among it.
    let mut file = std::io::BufWriter::new(output::private_file(path).map_err(|error| failed(&error))?);
    captured::each(shared, client, data, id, CaptureField::Recording, |piece| {
        file.write_all(piece).map(|()| true).map_err(|error| failed(&error))
    })
    .await?;
    file.flush().map_err(|error| failed(&error))
}

/// Entries of the session that have a recording, oldest first.
async fn recordings(
    shared: &Shared,
    client: &Client,
    data: &Path,
    session: SessionId,
) -> Result<Vec<EntryId>, Failure> {
    let entries = listing::of_session(shared, client, data, session).await?;
    let mut found: Vec<EntryId> = entries
        .iter()
        .filter(|entry| {
            let captured = entry.pointer("/captured").and_then(Value::as_array);
            captured.is_some_and(|captured| {
                captured.iter().any(|one| one.pointer("/field").and_then(Value::as_str) == Some("recording"))
            })
        })
        .filter_map(|entry| entry.pointer("/id").and_then(Value::as_str)?.parse().ok())
        .collect();
    found.reverse();
    Ok(found)
}

/// One line of an asciicast after the first.
pub(super) struct Event {
    /// Seconds since the one before.
    pub interval: f64,
    /// `o` for output, `i` for input, `r`, `m`, `x`.
    pub code: String,
    pub data: String,
}

/// Reads a line; `None` for a comment, and for what is no event.
pub(super) fn event(line: &[u8]) -> Option<Event> {
    let (interval, code, data) = serde_json::from_slice::<(f64, String, String)>(line).ok()?;
    Some(Event { interval, code, data })
}

/// Columns and rows that the first line of an asciicast tells.
pub(super) fn size(line: &[u8]) -> Option<(usize, usize)> {
    let header: Value = serde_json::from_slice(line).ok()?;
    let number = |pointer: &str| usize::try_from(header.pointer(pointer)?.as_u64()?).ok();
    Some((number("/term/cols")?, number("/term/rows")?))
}

/// Plays an asciicast.
struct Player {
    speed: f64,
    idle: Option<Duration>,
    filter: Filter,
}

impl Player {
    fn new(asked: &Replay) -> Self {
        // What is less than nothing is refused where the command line is read.
        let idle = Duration::try_from_secs_f64(asked.idle_limit).ok();
        Self { speed: asked.speed, idle, filter: Filter::default() }
    }

    async fn play(&mut self, cast: &[u8]) -> Result<(), Failure> {
        let mut lines = cast.split(|byte| *byte == b'\n').filter(|line| line.len() <= MAX_LINE_BYTES);
        if let Some((columns, rows)) = lines.next().and_then(size) {
            tell_of_size((columns, rows));
        }
        for line in lines {
            let Some(event) = event(line) else { continue };
            let pause = Duration::try_from_secs_f64(event.interval / self.speed).unwrap_or_default();
            let pause = self.idle.map_or(pause, |idle| pause.min(idle));
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            if event.code == "o" {
                output::bytes(self.filter.pass(&event.data).as_bytes())?;
            }
        }
        Ok(())
    }
}

/// A recording in a terminal of another size looks torn; that is said before it begins.
fn tell_of_size((columns, rows): (usize, usize)) {
    if let Some((here_columns, here_rows)) = terminal::size()
        && (here_columns < columns || here_rows < rows)
    {
        eprintln!(
            "recorded in {columns} columns and {rows} rows; this terminal has {here_columns} and {here_rows}: make it larger if it looks torn"
        );
    }
}
