//! `trailgate up`: puts the floors together and runs them until a signal comes.
//!
//! Order of coming up: settings, data directory and its lock, trail (which closes what a crash left open), control
//! store, first snapshot, sealer, sockets, threads. Order of going down: no new connections, open sessions may end by
//! themselves, then they are ended, then the trail is sealed and closed.

mod house;
mod listeners;
mod stop;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use postgres::Postgres;
use vocabulary::Timestamp;

pub use house::vault_keys;

use crate::cli::{Failure, args};
use crate::data::{self, DataDir};
use crate::settings::Settings;
use crate::supervisor::{Ended, Supervisor};
use crate::workers;

/// How long the threads may take to end after the sessions have been ended.
const JOIN_PATIENCE: Duration = Duration::from_secs(10);

/// How long sealing what is left may take.
const SEAL_PATIENCE: Duration = Duration::from_secs(60);

/// How often expired tokens are looked for.
const TICK: Duration = Duration::from_secs(1);

/// Stack of the thread that answers the API, in bytes.
const CONTROL_STACK_BYTES: usize = 8 << 20;

/// Runs a gateway until SIGTERM or SIGINT.
///
/// # Errors
/// [`Failure`] if it can't come up, or a part of it failed while it ran.
pub fn run(data_dir: Option<&Path>, options: &args::Up) -> Result<(), Failure> {
    let began = Instant::now();
    let settings = settings(data_dir, options)?;
    let path = settings.data.dir.clone().unwrap_or_else(|| PathBuf::from(data::DEFAULT));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("the system gives no resources: {error}"), "try again"))?;
    // Before anything is open, so that no signal finds the gateway without its handlers.
    let mut signals = stop::Signals::new(&runtime)?;
    raise_open_files();
    let data = DataDir::open(&path)?;
    let house = house::House::open(&data, &settings)?;
    let sockets = listeners::Sockets::open(&data, &settings, house.decoy.clone())?;
    let mut supervisor = Supervisor::default();
    let started = start(&mut supervisor, &data, &settings, &house, sockets);
    let addresses = match started {
        Ok(addresses) => addresses,
        Err(failure) => {
            supervisor.stop();
            drop(supervisor.join(JOIN_PATIENCE));
            drop(house.close(SEAL_PATIENCE));
            return Err(failure);
        }
    };
    greet(&data, &addresses, began.elapsed());
    let outcome = runtime.block_on(until_stopped(&mut signals, &mut supervisor));
    let grace = Duration::from_secs(settings.workers.shutdown_grace_s);
    runtime.block_on(stop::drain(&house.gatehouse, &supervisor, &mut signals, grace));
    let left = supervisor.join(JOIN_PATIENCE);
    if !left.is_empty() {
        tracing::warn!(threads = left.join(", "), "some threads did not end in time");
    }
    listeners::remove_traces(&data);
    house.close(SEAL_PATIENCE)?;
    tracing::info!("stopped; everything is sealed");
    outcome
}

fn start(
    supervisor: &mut Supervisor,
    data: &DataDir,
    settings: &Settings,
    house: &house::House,
    sockets: listeners::Sockets,
) -> Result<api::types::Addresses, Failure> {
    let no_thread = |error: std::io::Error| {
        Failure::new(
            format!("the system gives no thread: {error}"),
            "check the limits of this user (ulimit -u)",
        )
    };
    house.start_sealer()?;
    let threads =
        settings.workers.threads.map_or_else(cores, |threads| usize::try_from(threads).unwrap_or(1));
    let connections = usize::try_from(settings.limits.connections).unwrap_or(usize::MAX >> 4);
    let listeners::Sockets { postgres, web, control, addresses, postgres_listener, web_tls } = sockets;
    let host = Arc::new(workers::Host {
        protocol: Postgres::default(),
        house: Arc::clone(&house.gatehouse),
        listener: postgres_listener,
    });
    workers::start(supervisor, threads, connections, postgres, &host).map_err(no_thread)?;
    let control_state = house.control(&addresses, settings, supervisor.stopping())?;
    let stop = supervisor.stopping();
    let api_connections = usize::try_from(settings.limits.api_connections).unwrap_or(256);
    let gatehouse = Arc::clone(&house.gatehouse);
    supervisor
        .start("control", CONTROL_STACK_BYTES, move || async move {
            let mut stopping = stop.clone();
            let router = api::router(control_state);
            let served = listeners::serve(control, web, web_tls, router, api_connections, stop);
            let ticking = async {
                let mut tick = tokio::time::interval(TICK);
                loop {
                    tick.tick().await;
                    gatehouse.tick(Timestamp::now());
                }
            };
            tokio::select! {
                () = served => {}
                () = ticking => {}
            }
            let _ = stopping.wait_for(|stop| *stop).await;
        })
        .map_err(no_thread)?;
    let written = serde_json::to_vec_pretty(&addresses).unwrap_or_default();
    data.replace("addresses.json", &written)
        .map_err(|error| Failure::file("write", &data::addresses_file(data.path()), &error))?;
    Ok(addresses)
}

/// Settings from the file, then what the command line says.
fn settings(data_dir: Option<&Path>, options: &args::Up) -> Result<Settings, Failure> {
    let refused = |error: crate::settings::SettingsError| {
        let source =
            std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        Failure::new(format!("{error}{source}"), error.advice())
    };
    let mut settings = match &options.config {
        Some(path) => Settings::from_file(path).map_err(refused)?,
        None => Settings::default(),
    };
    if let Some(dir) = data_dir {
        settings.data.dir = Some(dir.to_owned());
    }
    if let Some(listen) = &options.postgres_listen {
        settings.postgres.listen.clone_from(listen);
    }
    if let Some(listen) = &options.web_listen {
        settings.web.listen.clone_from(listen);
    }
    settings.check().map_err(refused)?;
    Ok(settings)
}

async fn until_stopped(signals: &mut stop::Signals, supervisor: &mut Supervisor) -> Result<(), Failure> {
    tokio::select! {
        () = signals.next() => Ok(()),
        ended = supervisor.ended() => {
            let Ended { name, panicked } = ended.unwrap_or(Ended { name: "all threads".to_owned(), panicked: false });
            let how = if panicked { "by a fault of the gateway" } else { "by itself" };
            Err(Failure::new(format!("thread {name} ended {how}, so the gateway stopped"), "see its log, and please report this"))
        }
    }
}

fn greet(data: &DataDir, addresses: &api::types::Addresses, took: Duration) {
    let shown = |address: &Option<String>, tls: bool, how: &str| {
        let address = address.as_deref().unwrap_or("-");
        format!("{address}{}", if tls { how } else { "" })
    };
    eprintln!("Trailgate {} is up after {} ms", env!("CARGO_PKG_VERSION"), took.as_millis());
    eprintln!("  PostgreSQL  {}", shown(&addresses.postgres, addresses.postgres_tls, " (TLS)"));
    eprintln!(
        "  API         {}://{}",
        if addresses.web_tls { "https" } else { "http" },
        shown(&addresses.web, false, "")
    );
    eprintln!("  data        {}", data.path().display());
    eprintln!("What to do next (in another terminal, here):");
    eprintln!("  trailgate target add NAME postgres://USER:PASSWORD@HOST/DATABASE");
    eprintln!(
        "  trailgate person add NAME, trailgate agent add NAME --for PERSON, trailgate connect AGENT TARGET"
    );
    eprintln!("  trailgate trail tail, trailgate doctor");
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Each session takes two descriptors; the usual soft limit of 1,024 is for programs that use select(2).
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}
