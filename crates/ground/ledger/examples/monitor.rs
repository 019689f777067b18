//! A monitor of a log over HTTP that is made of crates which we did not write, `signed_note` and `tlog_tiles`:
//! `monitor VKEY HOST:PORT PREFIX [OLD-CHECKPOINT-FILE]`. Fetches the checkpoint and every entry and checks each against the
//! signed root; with a checkpoint that was kept, also that the log goes on from it. The evidence suite runs it.

use std::{
    error::Error,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
};

use signed_note::{Note, StandardVerifier, VerifierList};
use tlog_tiles::{Checkpoint, HashReader as _, Tile, TileHashReader, TileReader};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [vkey, address, prefix, kept @ ..] = arguments.as_slice() else {
        return Err("usage: monitor VKEY HOST:PORT PREFIX [OLD-CHECKPOINT-FILE]".into());
    };
    let log = Log { address: address.clone(), prefix: prefix.trim_end_matches('/').to_owned() };
    let checkpoint = open(&log.fetch("checkpoint")?, vkey)?;
    let (size, root) = (checkpoint.size(), *checkpoint.hash());
    let hashes = TileHashReader::new(size, root, &log);
    for first in (0..size).step_by(256) {
        let width = (size - first).min(256);
        let bundle = log.fetch(&path("tile/entries/", first / 256, width))?;
        let entries = split(&bundle).filter(|entries| entries.len() as u64 == width);
        let entries = entries.ok_or("an entry bundle is torn")?;
        let indexes: Vec<u64> =
            (first..first + width).map(|index| tlog_tiles::stored_hash_index(0, index)).collect();
        let expected = hashes.read_hashes(&indexes).map_err(|error| format!("{error:?}"))?;
        for (index, (entry, hash)) in (first..).zip(entries.iter().zip(expected)) {
            if tlog_tiles::record_hash(entry) != hash {
                return Err(format!("entry {index} does not hold").into());
            }
        }
    }
    if let [file] = kept {
        let old = open(&fs::read(file)?, vkey)?;
        let proof =
            tlog_tiles::prove_tree(size, old.size(), &hashes).map_err(|error| format!("{error:?}"))?;
        tlog_tiles::check_tree(&proof, size, root, old.size(), *old.hash())
            .map_err(|error| format!("it does not go on from the checkpoint that was kept: {error:?}"))?;
    }
    println!("all {size} entries are in the signed tree");
    Ok(())
}

/// Verifies a checkpoint's signature.
fn open(bytes: &[u8], vkey: &str) -> Result<Checkpoint, Box<dyn Error>> {
    let note = Note::from_bytes(bytes).map_err(|error| format!("the checkpoint is no note: {error:?}"))?;
    let verifier = StandardVerifier::new(vkey).map_err(|error| format!("the vkey: {error:?}"))?;
    let known = VerifierList::new(vec![Box::new(verifier)]);
    note.verify(&known).map_err(|error| format!("the checkpoint's signature: {error:?}"))?;
    Checkpoint::from_bytes(note.text()).map_err(|error| format!("the checkpoint: {error:?}").into())
}

/// Where a tile is, as c2sp.org/tlog-tiles writes it.
fn path(kind: &str, mut number: u64, width: u64) -> String {
    let mut name = format!("{:03}", number % 1000);
    while number >= 1000 {
        number /= 1000;
        name = format!("x{:03}/{name}", number % 1000);
    }
    let partial = if width < 256 { format!(".p/{width}") } else { String::new() };
    format!("{kind}{name}{partial}")
}

fn split(mut bundle: &[u8]) -> Option<Vec<&[u8]>> {
    let mut entries = Vec::new();
    while !bundle.is_empty() {
        let (length, rest) = bundle.split_first_chunk::<2>()?;
        let (entry, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        entries.push(entry);
        bundle = rest;
    }
    Some(entries)
}

/// A log over plain HTTP.
struct Log {
    address: String,
    prefix: String,
}

impl Log {
    fn fetch(&self, path: &str) -> Result<Vec<u8>, Box<dyn Error>> {
        let Self { address, prefix } = self;
        let mut stream = TcpStream::connect(address)?;
        write!(stream, "GET {prefix}/{path} HTTP/1.0\r\nhost: {address}\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let end =
            answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or("an answer without head")?;
        let body = answer.split_off(end + 4);
        let head = String::from_utf8_lossy(&answer);
        let status = head.split(' ').nth(1).unwrap_or_default();
        if status == "200" { Ok(body) } else { Err(format!("{path}: the log answers {status}").into()) }
    }
}

impl TileReader for Log {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        // What can't be fetched does not hash to what it should.
        let fetch =
            |tile: &Tile| self.fetch(&tile.path().replacen("tile/8/", "tile/", 1)).unwrap_or_default();
        Ok(tiles.iter().map(fetch).collect())
    }

    fn save_tiles(&self, _: &[Tile], _: &[Vec<u8>]) {}
}
