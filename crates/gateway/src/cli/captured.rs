//! What commands read and wrote: shown below their entry, or written out whole.

use std::io::IsTerminal;
use std::path::Path;

use avt::observer::Transcript;
use serde_json::Value;
use trail::{CaptureField, TrailError};
use vocabulary::EntryId;

use super::args::Shared;
use super::trail::{note_own_reading, offline};
use super::{Failure, output, replay, terminal};
use crate::client::{Client, ClientError};

/// Shown of each field below its entry, in bytes. `--captured` writes all.
const SHOWN_BYTES: usize = 64 * 1024;

/// Read of a recording to show it as text.
const RENDERED_BYTES: usize = 4 << 20;

/// Shows what is text of what was captured of an entry.
pub async fn show_all(
    shared: &Shared,
    client: &Client,
    data: &Path,
    id: EntryId,
    entry: &Value,
) -> Result<(), Failure> {
    let captured =
        entry.pointer("/captured").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for one in captured {
        let field = one.pointer("/field").and_then(Value::as_str).and_then(|field| field.parse().ok());
        let bytes = one.pointer("/bytes").and_then(Value::as_u64).unwrap_or_default();
        match field {
            Some(
                field @ (CaptureField::Stdin
                | CaptureField::Stdout
                | CaptureField::Stderr
                | CaptureField::Rows),
            ) => show(shared, client, data, id, field, bytes).await?,
            Some(CaptureField::Recording) => show_recording(shared, client, data, id).await?,
            // Not made for reading: written out.
            Some(CaptureField::Upload | CaptureField::Download) | None => {}
        }
    }
    Ok(())
}

/// Shows what a terminal showed, as text: rendered, so that nothing in it acts on the reader's own.
async fn show_recording(shared: &Shared, client: &Client, data: &Path, id: EntryId) -> Result<(), Failure> {
    let mut cast = Vec::new();
    let whole = each(shared, client, data, id, CaptureField::Recording, |piece| {
        cast.extend_from_slice(piece);
        Ok(cast.len() < RENDERED_BYTES)
    });
    if let Err(failure) = whole.await {
        return output::line(&format!("\nrecording: {}", failure.what));
    }
    let text = rendered(&cast);
    let shown: String = text.chars().take(SHOWN_BYTES).collect();
    output::line(&format!("\nrecording, as text:\n{}", terminal::printable(&shown).trim_end_matches('\n')))?;
    if shown.len() < text.len() || cast.len() >= RENDERED_BYTES {
        eprintln!("there is more: `trailgate trail show {id} --captured recording` writes all");
    }
    Ok(())
}

/// The text that a recording leaves on an endless screen.
fn rendered(cast: &[u8]) -> String {
    /// Largest terminal that is emulated.
    const MOST: usize = 1000;
    let mut lines = cast.split(|byte| *byte == b'\n');
    let Some((columns, rows)) = lines.next().and_then(replay::size) else { return String::new() };
    let Ok(mut screen) = avt::Terminal::new(columns.clamp(1, MOST), rows.clamp(1, MOST)) else {
        return String::new();
    };
    let mut transcript = Transcript::new();
    let mut text = Vec::new();
    for event in lines.filter_map(replay::event) {
        match event.code.as_str() {
            "o" => text.extend(screen.feed_with(event.data.as_str(), &mut transcript)),
            "r" => {
                let size =
                    event.data.split_once('x').and_then(|(c, r)| Some((c.parse().ok()?, r.parse().ok()?)));
                let (columns, rows): (usize, usize) = size.unwrap_or_else(|| screen.size());
                let (columns, rows) = (columns.clamp(1, MOST), rows.clamp(1, MOST));
                text.extend(screen.resize_with(columns, rows, &mut transcript));
            }
            _ => {}
        }
    }
    text.extend(transcript.finish(&screen));
    text.join("\n").trim_end().to_owned()
}

/// Shows a field, as far as it is not too long.
async fn show(
    shared: &Shared,
    client: &Client,
    data: &Path,
    id: EntryId,
    field: CaptureField,
    bytes: u64,
) -> Result<(), Failure> {
    let mut shown = Vec::new();
    let whole = each(shared, client, data, id, field, |piece| {
        let room = SHOWN_BYTES - shown.len();
        shown.extend_from_slice(piece.get(..room).unwrap_or(piece));
        Ok(shown.len() < SHOWN_BYTES)
    });
    if let Err(failure) = whole.await {
        // Erased, or no key at hand: the entry itself was shown.
        return output::line(&format!("\n{field}: {}", failure.what));
    }
    let left = bytes.saturating_sub(shown.len() as u64);
    if left > 0 {
        shown.truncate(shown.len() - unfinished(&shown));
    }
    let text = terminal::printable(&String::from_utf8_lossy(&shown));
    output::line(&format!("\n{field}:\n{}", text.trim_end_matches('\n')))?;
    if left > 0 {
        eprintln!("{left} more bytes: `trailgate trail show {id} --captured {field}` writes all");
    }
    Ok(())
}

/// Writes a field to standard output: as it was, but for a terminal, which nothing may steer unless that is asked for.
pub async fn write(
    shared: &Shared,
    client: &Client,
    data: &Path,
    id: EntryId,
    field: CaptureField,
    raw: bool,
) -> Result<(), Failure> {
    let as_it_was = raw || !std::io::stdout().is_terminal();
    // A character that is cut by the end of a piece waits for the next.
    let mut cut = Vec::new();
    each(shared, client, data, id, field, |piece| {
        if as_it_was {
            output::bytes(piece)?;
            return Ok(true);
        }
        cut.extend_from_slice(piece);
        let whole = cut.len() - unfinished(&cut);
        let rest = cut.split_off(whole);
        output::bytes(terminal::printable(&String::from_utf8_lossy(&cut)).as_bytes())?;
        cut = rest;
        Ok(true)
    })
    .await?;
    output::bytes(terminal::printable(&String::from_utf8_lossy(&cut)).as_bytes())
}

/// Bytes at the end that begin a character and don't finish it.
fn unfinished(bytes: &[u8]) -> usize {
    /// A character has up to four bytes.
    const MOST: usize = 3;
    let tail = bytes.get(bytes.len().saturating_sub(MOST)..).unwrap_or_default();
    let begins = tail.iter().rposition(|byte| *byte >= 0xc0);
    begins.map_or(0, |at| {
        let character = tail.get(at..).unwrap_or_default();
        match std::str::from_utf8(character) {
            Err(error) if error.error_len().is_none() => character.len(),
            Ok(_) | Err(_) => 0,
        }
    })
}

/// Hands the pieces of a field on, until there are no more or `take` wants no more.
pub(super) async fn each(
    shared: &Shared,
    client: &Client,
    data: &Path,
    id: EntryId,
    field: CaptureField,
    mut take: impl FnMut(&[u8]) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let answer = if note_own_reading(shared, client, &format!("{field} of {id}")).await? {
        Err(ClientError::NoGateway { place: String::new(), local: true })
    } else {
        client.pieces(&format!("/v1/trail/{id}/captured/{field}")).await
    };
    match answer {
        Ok(mut pieces) => {
            while let Some(piece) = pieces.next().await? {
                if !take(&piece)? {
                    break;
                }
            }
            Ok(())
        }
        Err(ClientError::NoGateway { local: true, .. }) => {
            let failed = |error: TrailError| Failure::from_sentence(&error.in_full());
            let mut reader = offline(shared, data)?;
            for piece in reader.captured(id, field).map_err(failed)? {
                if !take(&piece.map_err(failed)?)? {
                    break;
                }
            }
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_is_read_as_text() {
        let cast = concat!(
            r#"{"version":3,"term":{"cols":20,"rows":4}}"#,
            "\n",
            r#"[0.1,"o","$ ls\r\n\u001b[1mfile\u001b[0m\r\n\u001b]0;x\u0007$ exix\bt\r\n"]"#,
            "\n",
            r#"[0.1,"i","secret\r"]"#,
            "\n",
            r#"[0.1,"o","\u001b[?1049hediting\u001b[?1049l1\r\n2\r\n3\r\n4\r\n"]"#,
            "\n",
        );
        assert_eq!(rendered(cast.as_bytes()), "$ ls\nfile\n$ exit\n1\n2\n3\n4");
        assert_eq!(rendered(b"no cast"), "");
    }

    #[test]
    fn a_character_is_not_cut() {
        assert_eq!(unfinished("a\u{20ac}".as_bytes()), 0);
        assert_eq!(unfinished(b"a\xe2\x82"), 2);
        assert_eq!(unfinished(b"a\xff"), 0);
        assert_eq!(unfinished(b"\xf0\x9f\x8f"), 3);
        assert_eq!(unfinished(b""), 0);
    }
}
