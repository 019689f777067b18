//! A disk that is really full.

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use journal::{AppendError, Health, Journal, Position, Settings};

use crate::support::{append, batch, contents};

/// A small file system in memory, gone with this value.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(dir.path())
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then_some(Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: files of the journal may still be open.
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_refuses_and_heals_when_space_is_back() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: only root may mount the small disk this needs");
        return;
    };
    let dir = disk.path().join("journal");
    let settings =
        Settings { segment_bytes: 64 * 1024, retry_after: Duration::from_millis(5), ..Settings::default() };
    let (journal, _) = Journal::open(&dir, settings.clone()).unwrap();
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; 700 * 1024]).unwrap();

    let payload = vec![7; 1000];
    let mut accepted = 0;
    let refused = loop {
        match journal.append(&mut batch(&[&payload])) {
            Ok(position) => {
                accepted += 1;
                assert_eq!(position, Position(accepted));
            }
            Err(error) => break error,
        }
        assert!(accepted < 2000, "the disk is never full");
    };
    assert!(matches!(&refused, AppendError::NoSegment { .. }), "{refused}");
    assert!(matches!(journal.health(), Health::Refusing { reason: AppendError::NoSegment { .. }, .. }));
    // What does not fit a segment is refused too, and what was accepted stays readable.
    assert!(journal.append(&mut batch(&[vec![0; 900_000]])).is_err());
    assert_eq!(contents(&journal, Position(1)).len() as u64, accepted);
    journal.wait_synced(Position(accepted)).unwrap();

    fs::remove_file(&ballast).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !matches!(journal.health(), Health::Healthy) {
        assert!(Instant::now() < deadline, "never healed");
        thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(append(&journal, &payload), Position(accepted + 1));

    // A write that meets the end of the disk half way.
    let refused = journal.append(&mut batch(&[vec![9; 1_500_000]]));
    assert!(matches!(&refused, Err(AppendError::Write { .. })), "{refused:?}");
    let deadline = Instant::now() + Duration::from_secs(10);
    while journal.append(&mut batch(&["after"])).is_err() {
        assert!(Instant::now() < deadline, "never healed");
        thread::sleep(Duration::from_millis(2));
    }
    drop(journal);
    let (journal, recovered) = Journal::open(&dir, settings).unwrap();
    assert_eq!((recovered.next, recovered.truncated), (Position(accepted + 3), None));
    let found = contents(&journal, Position(1));
    assert!(found.iter().take(accepted as usize + 1).all(|frame| *frame == payload));
    assert_eq!(found.last().unwrap(), b"after");
}
