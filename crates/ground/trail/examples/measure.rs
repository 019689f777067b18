//! Measures the trail: appends commands, seals them, reads and verifies them, and prints what that cost.
//!
//! `cargo run --release -p trail --example measure -- [COMMANDS] [SESSIONS] [DIR]`

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use journal::Batch;
use trail::{
    EndReason, FactsRecord, Filter, Intent, NodeKey, OutcomeRecord, ParamsBuf, Reader, SessionEnd,
    SessionStart, Settings, Trail, VerifyOptions, record::encode_decision, verify,
};
use vocabulary::{
    Class, ClientInfo, CredentialId, Decision, NodeId, PolicyHash, PrincipalId, PrincipalKind, ProvenBy,
    SessionId, Status, TargetId, TargetKind, Timestamp, Verdict, Where, Who,
};

const NODE: NodeId = NodeId::from_bytes([9; 16]);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let commands: u64 = arguments.next().map_or(Ok(300_000), |text| text.parse())?;
    let sessions: u64 = arguments.next().map_or(Ok(32), |text| text.parse())?;
    let dir = arguments.next().map_or_else(|| std::env::temp_dir().join("trail-measure"), PathBuf::from);
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    let keys = Arc::new(NodeKey::new(&[7; 32])?);
    let settings = || Settings::new(NODE, "trail.measure/node", Arc::clone(&keys) as _);

    let (trail, _) = Trail::open(&dir, settings())?;
    let begun = Instant::now();
    append(&trail, commands, sessions)?;
    let per = |time: Duration| time.as_secs_f64() * 1e6 / commands as f64;
    println!("append        {:8.2} µs per command", per(begun.elapsed()));
    let written = sizes(&dir, "journal")?;

    let (begun, cpu) = (Instant::now(), cpu_time()?);
    trail.start_sealer()?;
    trail.flush(Duration::from_secs(600))?;
    let (wall, cpu) = (begun.elapsed(), cpu_time()?.saturating_sub(cpu));
    println!(
        "seal          {:8.0} commands/s, {:.2} µs per command, {:.2} µs of processor time",
        commands as f64 / wall.as_secs_f64(),
        per(wall),
        per(cpu)
    );
    println!("memory        {:8} kB at most", peak_memory()?);
    let each = |bytes: u64| bytes as f64 / commands as f64;
    let (ledger, vault) = (sizes(&dir, "ledger")?, sizes(&dir, "vault")?);
    let (plain_ledger, plain_vault) = uncompressed(&dir, ledger, vault)?;
    println!(
        "on disk       {:8.0} bytes per command: ledger {:.0}, vault {:.0} (journal before retiring: {:.0})",
        each(ledger + vault),
        each(ledger),
        each(vault),
        each(written)
    );
    println!(
        "uncompressed  {:8.0} bytes per command: ledger {:.0}, vault {:.0}",
        each(plain_ledger + plain_vault),
        each(plain_ledger),
        each(plain_vault)
    );

    let mut reader = Reader::open(&dir, Some(Arc::clone(&keys) as _))?;
    let begun = Instant::now();
    let newest = reader.list(&Filter { limit: Some(50), ..Filter::default() })?;
    println!("newest {}     {:8.2} ms", newest.len(), begun.elapsed().as_secs_f64() * 1e3);
    let begun = Instant::now();
    let none = reader.list(&Filter { status: Some(Status::Error), ..Filter::default() })?;
    println!("full scan     {:8.2} ms, {} found", begun.elapsed().as_secs_f64() * 1e3, none.len());
    if let Some(entry) = newest.last() {
        let begun = Instant::now();
        reader.show(entry.id)?;
        println!("show          {:8.2} ms", begun.elapsed().as_secs_f64() * 1e3);
    }
    trail.close(Duration::from_secs(60))?;

    let (begun, cpu) = (Instant::now(), cpu_time()?);
    let report = verify(&dir, &VerifyOptions { keys: Some(keys), ..VerifyOptions::default() }, |_, _| {})?;
    let (wall, cpu) = (begun.elapsed(), cpu_time()?.saturating_sub(cpu));
    println!(
        "verify        {:8.0} entries/s, {:.2} µs of processor time per entry",
        report.entries as f64 / wall.as_secs_f64(),
        per(cpu)
    );
    println!("{report}");
    fs::remove_dir_all(&dir)?;
    Ok(())
}

fn append(trail: &Trail, commands: u64, sessions: u64) -> Result<(), Box<dyn Error>> {
    let facts = FactsRecord {
        verb: "SELECT".to_owned(),
        class: Class::Read,
        objects: vec!["public.pgbench_accounts".to_owned()],
    }
    .encode();
    let (effect, policy_hash) = (Verdict::Permit, PolicyHash([5; 32]));
    let decision = encode_decision(&Decision { effect, policies: Vec::new(), policy_hash });
    let mut ids = Vec::new();
    for number in 0..sessions {
        let session = trail.new_session_id()?;
        trail.append_one(&start(session, number)?.into())?;
        ids.push(session);
    }
    let mut batch = Batch::new();
    let mut params = ParamsBuf::new();
    for number in 0..commands {
        let session = ids[usize::try_from(number % sessions)?];
        let seq = number / sessions + 2;
        let at = Timestamp::now();
        params.clear();
        if !params.push(number.to_string().as_bytes()) {
            return Err("a parameter did not fit".into());
        }
        let text = b"SELECT abalance FROM pgbench_accounts WHERE aid = $1;";
        let params = params.as_bytes();
        Intent { session, seq, at, facts: &facts, decision: &decision, text, params }.encode(&mut batch)?;
        trail.append(&mut batch)?;
        let outcome = OutcomeRecord {
            duration_us: 812,
            executed: Some(true),
            rows: Some(1),
            bytes_in: 61,
            bytes_out: 28,
            ..OutcomeRecord::bare(session, seq, at, Status::Ok)
        };
        outcome.encode(&mut batch)?;
        trail.append(&mut batch)?;
    }
    for (session, number) in ids.into_iter().zip(0..sessions) {
        let seq = commands.saturating_sub(number).div_ceil(sessions) + 2;
        let (at, reason) = (Timestamp::now(), EndReason::Client);
        trail.append_one(&SessionEnd { session, seq, at, entries: seq, reason, detail: None }.into())?;
    }
    Ok(())
}

fn start(session: SessionId, number: u64) -> Result<SessionStart, Box<dyn Error>> {
    Ok(SessionStart {
        session,
        seq: 1,
        at: Timestamp::now(),
        node: NODE,
        who: Who {
            id: PrincipalId::from_bytes([3; 16]),
            kind: PrincipalKind::Agent,
            name: format!("agent-{number}").parse()?,
            on_behalf_of: Some("alice".parse()?),
            credential: CredentialId::from_bytes([4; 16]),
            proven_by: ProvenBy::ScramSha256,
        },
        client: ClientInfo { addr: "10.0.0.7:51234".into(), ..ClientInfo::default() },
        target: Where {
            id: TargetId::from_bytes([6; 16]),
            name: "orders".parse()?,
            kind: TargetKind::Postgres,
            role: "app".into(),
            database: None,
            peer: None,
        },
    })
}

/// Processor time of this process.
fn cpu_time() -> Result<Duration, Box<dyn Error>> {
    /// Clock ticks per second, as Linux shows them to programs.
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks: Result<Vec<u64>, _> = fields.split_whitespace().skip(11).take(2).map(str::parse).collect();
    Ok(Duration::from_secs_f64(ticks?.iter().sum::<u64>() as f64 / TICKS))
}

/// Peak resident memory in kB.
fn peak_memory() -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// What ledger and vault would take if nothing in them were compressed.
fn uncompressed(data: &Path, ledger: u64, vault: u64) -> Result<(u64, u64), Box<dyn Error>> {
    /// Sealed length, plain length, flags and nonce of a chunk, and its tag.
    const HEADER: usize = 4 + 4 + 1 + 12;
    const TAG: u64 = 16;
    let bundles = sizes(data, "ledger/tile/entries")?;
    let snapshot = trail::ledger_reader(data)?.snapshot()?;
    let mut entries = 0;
    for entry in snapshot.entries(0..snapshot.size()) {
        entries += 2 + entry?.1.len() as u64;
    }
    let mut grown = 0;
    for file in fs::read_dir(data.join("vault"))? {
        let path = file?.path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("payload-")) {
            continue;
        }
        let bytes = fs::read(&path)?;
        let mut rest = bytes.as_slice();
        while let (Some(&sealed), Some(plain)) = (rest.first_chunk::<4>(), rest.get(4..8)) {
            let (sealed, plain) = (u32::from_le_bytes(sealed), u32::from_le_bytes(plain.try_into()?));
            grown += (u64::from(plain) + TAG).saturating_sub(u64::from(sealed));
            rest = rest.get(HEADER + usize::try_from(sealed)?..).unwrap_or_default();
        }
    }
    Ok((ledger - bundles + entries, vault + grown))
}

/// Bytes that the files below a directory take.
fn sizes(data: &Path, name: &str) -> Result<u64, Box<dyn Error>> {
    let mut bytes = 0;
    let mut left = vec![data.join(name)];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                left.push(entry.path());
            } else {
                bytes += entry.metadata()?.len();
            }
        }
    }
    Ok(bytes)
}
