//! The log over HTTP, read by a client that others wrote: the crate `tlog_tiles`.

#![expect(clippy::unwrap_used, reason = "tests say plainly what they expect")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tlog_tiles::{Checkpoint, Tile, TileHashReader, TileReader};

/// A gateway on free ports; ends when dropped.
struct Gateway(Child);

impl Gateway {
    fn start(data: &Path) -> (Self, String) {
        let child = Command::new(env!("CARGO_BIN_EXE_trailgate"))
            .args(["up", "--postgres-listen", "127.0.0.1:0", "--web-listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let gateway = Self(child);
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let text = std::fs::read(data.join("addresses.json")).unwrap_or_default();
            let addresses: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
            if let Some(web) = addresses["web"].as_str() {
                return (gateway, web.to_owned());
            }
            assert!(Instant::now() < deadline, "the gateway does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        self.0.wait().unwrap();
    }
}

/// The body of an answer, which has to be 200.
fn fetch(web: &str, path: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(web).unwrap();
    write!(stream, "GET /log/{path} HTTP/1.1\r\nhost: {web}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{path}: {}", String::from_utf8_lossy(&answer));
    answer.split_off(end + 4)
}

/// Their reader of tiles, over HTTP.
struct Served<'a>(&'a str);

impl TileReader for Served<'_> {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        // Their paths carry the tile height, as Go's do; tlog-tiles fixes it to 8.
        Ok(tiles.iter().map(|tile| fetch(self.0, &tile.path().replacen("tile/8/", "tile/", 1))).collect())
    }

    fn save_tiles(&self, _: &[Tile], _: &[Vec<u8>]) {}
}

#[test]
fn tlog_tiles_proves_every_entry_from_what_is_served() {
    let temp = tempfile::tempdir().unwrap();
    let (_gateway, web) = Gateway::start(&temp.path().join("data"));
    let deadline = Instant::now() + Duration::from_secs(30);
    let (checkpoint, size) = loop {
        let note = signed_note::Note::from_bytes(&fetch(&web, "checkpoint")).unwrap();
        let vkey = String::from_utf8(fetch(&web, "log.vkey")).unwrap();
        let verifier = signed_note::StandardVerifier::new(vkey.trim_end()).unwrap();
        let known = signed_note::VerifierList::new(vec![Box::new(verifier)]);
        assert_eq!(note.verify(&known).unwrap().0.len(), 1);
        let checkpoint = Checkpoint::from_bytes(note.text()).unwrap();
        let size = checkpoint.size();
        if size > 0 {
            break (checkpoint, size);
        }
        assert!(Instant::now() < deadline, "nothing is sealed");
        std::thread::sleep(Duration::from_millis(50));
    };
    let served = Served(&web);
    let tiles = TileHashReader::new(size, *checkpoint.hash(), &served);
    assert_eq!(tlog_tiles::tree_hash(size, &tiles).unwrap(), *checkpoint.hash());
    let mut bundle = &fetch(&web, &format!("tile/entries/000.p/{size}"))[..];
    for index in 0..size {
        let (length, rest) = bundle.split_first_chunk::<2>().unwrap();
        let (entry, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)));
        let proof = tlog_tiles::prove_record(size, index, &tiles).unwrap();
        let leaf = tlog_tiles::record_hash(entry);
        tlog_tiles::check_record(&proof, size, *checkpoint.hash(), index, leaf).unwrap();
        bundle = rest;
    }
    assert!(bundle.is_empty());
}
