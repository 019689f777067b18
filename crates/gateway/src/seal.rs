//! `trailgate seal`: the sealer as a process and user of its own, so that the key which signs the log need not live where
//! clients' bytes are parsed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ledger::{Ed25519Signer, Signer};
use store::KeySource;
use trail::{SealerProcess, SealerSettings};

use crate::cli::{Failure, args};
use crate::data;
use crate::evidence;
use crate::keys;
use crate::node::NodeIdentity;
use crate::settings::Settings;
use crate::supervisor::{Ended, Supervisor};
use crate::up::{Signals, close_to_others, vault_keys};

/// How often it is looked whether a gateway has been started for the first time.
const GLANCE: Duration = Duration::from_millis(200);

/// How long sealing what is left may take.
const SEAL_PATIENCE: Duration = Duration::from_secs(60);

/// Stack of the thread that seals, in bytes.
const STACK_BYTES: usize = 8 << 20;

/// Seals until SIGTERM or SIGINT.
///
/// # Errors
/// [`Failure`] if it can't begin.
pub fn run(data_dir: Option<&Path>, options: &args::Seal) -> Result<(), Failure> {
    let settings = settings(data_dir, options)?;
    // The gateway reads what is written here, and it may be another user of the same group.
    close_to_others(true);
    let path = settings.data.dir.clone().unwrap_or_else(|| PathBuf::from(data::DEFAULT));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("the system gives no resources: {error}"), "try again"))?;
    let mut signals = Signals::new(&runtime)?;
    let Some(node) = runtime.block_on(node(&path, &mut signals))? else { return Ok(()) };
    let path = path.canonicalize().map_err(|error| Failure::file("use the data directory", &path, &error))?;
    let log_key = options.log_key.clone().unwrap_or_else(|| path.join("log.key"));
    let process = open(&path, &node, &log_key, &settings, options)?;
    let trail_log_key = options.trail_log_key.clone().unwrap_or_else(|| path.join("trail-log.key"));
    let keys = evidence::Keys { log: log_key.clone(), trail_log: trail_log_key };
    let evidence = evidence::Evidence::open(&settings, &path, &node.origin, &keys)?;
    runtime.block_on(evidence.compare(&settings))?;
    let (mut supervisor, stop) = (Supervisor::default(), Arc::new(AtomicBool::new(false)));
    let sealing = Arc::clone(&stop);
    let no_thread = |error: std::io::Error| {
        Failure::new(
            format!("the system gives no thread: {error}"),
            "check the limits of this user (ulimit -u)",
        )
    };
    supervisor
        .start("sealer", STACK_BYTES, move || async move {
            if let Err(error) = process.run(&sealing) {
                tracing::error!(reason = error.in_full(), "the sealer ended");
            }
        })
        .map_err(no_thread)?;
    let goodbye = evidence.start(&mut supervisor)?;
    eprintln!("Trailgate's sealer is up for {}", node.origin);
    eprintln!("  data  {}", path.display());
    eprintln!("  key   {}", log_key.display());
    let ended = runtime.block_on(async {
        tokio::select! {
            () = signals.next() => None,
            ended = supervisor.ended() => ended,
        }
    });
    stop.store(true, Ordering::Release);
    supervisor.stop();
    drop(supervisor.join(SEAL_PATIENCE));
    goodbye.say();
    match ended {
        None => Ok(()),
        Some(Ended { name, .. }) => {
            Err(Failure::new(format!("thread {name} ended by itself, so the sealer stopped"), "see its log"))
        }
    }
}

fn settings(data_dir: Option<&Path>, options: &args::Seal) -> Result<Settings, Failure> {
    let mut settings = match &options.config {
        Some(path) => Settings::from_file(path).map_err(|error| Failure::from_error(&error))?,
        None => Settings::default(),
    };
    if let Some(dir) = data_dir {
        settings.data.dir = Some(dir.to_owned());
    }
    Ok(settings)
}

/// Who the node is. Before a gateway's first start nobody is: waits for it. `None` if told to stop.
async fn node(data: &Path, signals: &mut Signals) -> Result<Option<NodeIdentity>, Failure> {
    let mut said = false;
    loop {
        if let Some(node) = NodeIdentity::read(data)? {
            return Ok(Some(node));
        }
        if !std::mem::replace(&mut said, true) {
            tracing::info!("waiting for the first start of a gateway over {}", data.display());
        }
        tokio::select! {
            () = signals.next() => return Ok(None),
            () = tokio::time::sleep(GLANCE) => {}
        }
    }
}

fn open(
    data: &Path,
    node: &NodeIdentity,
    log_key: &Path,
    settings: &Settings,
    options: &args::Seal,
) -> Result<SealerProcess, Failure> {
    let source = options.node_key.clone().map_or_else(|| settings.key_source(data), KeySource::File);
    // A key of its own making would open nothing of the gateway's.
    let source = match source {
        KeySource::Own(path) => KeySource::File(path),
        other => other,
    };
    let key = source
        .load(&data.join("control.db"), store::key_file::process_environment)
        .map_err(|error| Failure::from_error(&error))?;
    if !log_key.exists() && data.join("ledger/checkpoint").exists() {
        return Err(Failure::new(
            format!("{} is gone, but the ledger that it signed is here", log_key.display()),
            "put a backup of it in its place, or name it with --log-key",
        ));
    }
    let signer = Ed25519Signer::load_or_generate(&node.origin, log_key)
        .map_err(|error| Failure::from_error(&error))?;
    let signer: Box<dyn Signer> = Box::new(signer);
    let keys = keys::ring(vault_keys(&key)?, &settings.vault)?;
    let retention = settings.retention.to_trail().map_err(|error| Failure::from_error(&error))?;
    let wanted = SealerSettings { retention, ..SealerSettings::new(signer, keys) };
    SealerProcess::open(data, wanted).map_err(|error| match error {
        trail::TrailError::Ledger(ledger::Error::InUse { dir }) => Failure::new(
            format!("another process seals {}", dir.display()),
            "one sealer is enough: stop the other, or set sealer.run = \"external\" so that the gateway leaves it to this one",
        ),
        error => Failure::from_sentence(&error.in_full()),
    })
}
