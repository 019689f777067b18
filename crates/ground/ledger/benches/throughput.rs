//! Entries per second appended with a synced checkpoint every 100 ms, and verified afterwards.
//!
//! `cargo bench -p ledger -- [entries] [directory]`: default one million in the system's temporary directory.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use ledger::{Ed25519Signer, FileSystem, Ledger, Options, Signer as _, verify_all};

const ENTRY_BYTES: usize = 250;
const CHECKPOINT_EVERY: Duration = Duration::from_millis(100);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let entries: u64 = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let base = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    for compress_full_bundles in [false, true] {
        let dir = tempfile::tempdir_in(&base)?;
        run(dir.path(), entries, compress_full_bundles)?;
    }
    Ok(())
}

fn run(dir: &Path, entries: u64, compress_full_bundles: bool) -> Result<(), Box<dyn std::error::Error>> {
    let signer = Ed25519Signer::generate("example.com/throughput")?;
    let key = signer.verifier().clone();
    let options = Options { compress_full_bundles };
    let mut ledger = Ledger::open_with(dir, Box::new(signer), options, Box::new(FileSystem::new()))?;
    let memory_before_kib = resident_kib();

    // Half of a leaf compresses (keys, repeated ids), half does not (commitments), roughly as in real ones.
    let mut leaf = [0x5a; ENTRY_BYTES];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut checkpoint_times = Vec::new();
    let start = Instant::now();
    let mut last_checkpoint = start;
    for index in 0..entries {
        for chunk in leaf.chunks_exact_mut(8).take(ENTRY_BYTES / 16) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(index | 1);
            chunk.copy_from_slice(&state.rotate_left(31).to_le_bytes());
        }
        ledger.append(&leaf)?;
        if index % 64 == 0 && last_checkpoint.elapsed() >= CHECKPOINT_EVERY {
            last_checkpoint = Instant::now();
            ledger.checkpoint()?;
            checkpoint_times.push(last_checkpoint.elapsed());
        }
    }
    ledger.checkpoint()?;
    let elapsed = start.elapsed();
    checkpoint_times.sort();
    let at = |percent: usize| {
        checkpoint_times.get(checkpoint_times.len() * percent / 100).copied().unwrap_or_default()
    };
    println!("full bundles {}", if compress_full_bundles { "compressed" } else { "plain" });
    println!("  append      {:>10.0} entries/s ({ENTRY_BYTES} bytes each)", per_second(entries, elapsed));
    println!("  checkpoints {:>10} (p50 {:.1?}, p99 {:.1?})", checkpoint_times.len(), at(50), at(99));
    println!("  memory      {:>10} KiB more than before", resident_kib().saturating_sub(memory_before_kib));
    println!("  disk        {:>10.1} bytes per entry", per_entry(disk_bytes(dir)?, entries));
    drop(ledger);

    let start = Instant::now();
    let report = verify_all(dir, &key, |_, _| {})?;
    println!("  verify      {:>10.0} entries/s", per_second(report.checkpoint.size(), start.elapsed()));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn per_entry(bytes: u64, entries: u64) -> f64 {
    bytes as f64 / entries as f64
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn per_second(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}

/// This process's resident memory; 0 where the system does not say.
fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

fn disk_bytes(dir: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        sum += if entry.file_type()?.is_dir() { disk_bytes(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(sum)
}
