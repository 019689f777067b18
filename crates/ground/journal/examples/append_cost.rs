//! What an append costs, and what recovery of a large journal takes: `append_cost [DIR]`.
//!
//! Prints the time of one append by payload size, alone and from several threads, the latency of the `power`
//! level, and the time to follow and to open about 1 GB.

use std::{
    env,
    error::Error,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use journal::{Batch, Journal, Level, Position, Settings};

fn main() -> Result<(), Box<dyn Error>> {
    let parent = env::args().nth(1).map_or_else(env::temp_dir, Into::into);
    let dir = parent.join(format!("append_cost-{}", std::process::id()));
    let result = measure(&dir);
    std::fs::remove_dir_all(&dir)?;
    result
}

fn measure(dir: &Path) -> Result<(), Box<dyn Error>> {
    let (journal, _) = Journal::open(dir, Settings::default())?;
    let mut batch = Batch::new();
    for bytes in [100, 300, 1024, 4096] {
        let payload = vec![0x55; bytes];
        let mut nanos = Vec::new();
        for _ in 0..60_000 {
            batch.push(|buffer| buffer.extend_from_slice(&payload));
            let started = Instant::now();
            journal.append(&mut batch)?;
            nanos.push(started.elapsed().as_nanos());
        }
        print_quantiles(&format!("append of {bytes} B"), &mut nanos);
    }

    let payload = vec![0x55; 300];
    for threads in [2, 8] {
        let started = Instant::now();
        let each = 100_000;
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let mut batch = Batch::new();
                    for _ in 0..each {
                        batch.push(|buffer| buffer.extend_from_slice(&payload));
                        journal.append(&mut batch).expect("the append is accepted");
                    }
                });
            }
        });
        let per_second = f64::from(threads * each) / started.elapsed().as_secs_f64();
        println!("{threads} threads, 300 B each: {per_second:.0} appends/s");
    }

    journal.wait_synced(journal.written())?;
    let mut nanos = Vec::new();
    for _ in 0..2000 {
        batch.push(|buffer| buffer.extend_from_slice(&payload));
        let started = Instant::now();
        let position = journal.append(&mut batch)?;
        journal.wait_synced(position)?;
        nanos.push(started.elapsed().as_nanos());
    }
    print_quantiles("append of 300 B and sync, alone", &mut nanos);

    let record = vec![0x55; 1000];
    let mut total = 0;
    while total < 500_000_000 {
        for _ in 0..50 {
            batch.push(|buffer| buffer.extend_from_slice(&record));
        }
        total += batch.bytes_len();
        journal.append(&mut batch)?;
    }
    let started = Instant::now();
    let mut follower = journal.follow(Position(1));
    let (mut frames, mut bytes) = (0_u64, 0_usize);
    while follower.position() <= journal.written() {
        for frame in follower.next_batch(Level::Written, Duration::ZERO)? {
            frames += 1;
            bytes += frame.payload.len();
        }
    }
    println!("following {frames} frames, {} MB: {:.2} s", bytes / 1_000_000, started.elapsed().as_secs_f64());
    journal.close()?;

    let started = Instant::now();
    let (_, recovered) = Journal::open(dir, Settings::default())?;
    println!("opening them again: {:.2} s, next is {}", started.elapsed().as_secs_f64(), recovered.next);
    Ok(())
}

fn print_quantiles(what: &str, nanos: &mut [u128]) {
    nanos.sort_unstable();
    let at = |per_mille: usize| nanos.get(nanos.len() * per_mille / 1000).copied().unwrap_or_default();
    println!("{what}: p50 {} ns, p99 {} ns, p99.9 {} ns", at(500), at(990), at(999));
}
