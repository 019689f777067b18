//! `trailgate up`: puts the floors together and runs them until a signal comes.
//!
//! Order of coming up: settings, data directory and its lock, trail (which closes what a crash left open), control
//! store, first snapshot, sealer, sockets, threads. Order of going down: no new connections, open sessions may end by
//! themselves, then they are ended, then the trail is sealed and closed.

mod house;
mod listeners;
mod stop;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use postgres::Postgres;
use ssh::Ssh;
use tokio::sync::watch;
use vocabulary::{TargetKind, Timestamp};

pub use house::vault_keys;
pub use stop::Signals;

use crate::cli::{Failure, args};
use crate::cores::Cores;
use crate::data::{self, DataDir};
use crate::deliver;
use crate::evidence::{self, Evidence, Goodbye};
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

/// Stack of the thread that erases what is over, in bytes.
const EXPIRY_STACK_BYTES: usize = 2 << 20;

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
    close_to_others(settings.sealed_elsewhere());
    let data = DataDir::open(&path, settings.sealed_elsewhere())?;
    let threads = settings
        .workers
        .threads
        .map_or_else(default_workers, |threads| usize::try_from(threads).unwrap_or(1));
    let cores = settings.workers.own_cores.then(|| Cores::share(threads)).flatten();
    let house = house::House::open(&data, &settings)?;
    let sockets = listeners::Sockets::open(&data, &settings, house.decoy.clone())?;
    let evidence = if settings.sealed_elsewhere() {
        None
    } else {
        Some(Evidence::open(&settings, data.path(), house.origin(), &evidence::Keys::of(data.path()))?)
    };
    if let Some(evidence) = &evidence {
        runtime.block_on(evidence.compare(&settings))?;
    }
    let mut supervisor = Supervisor::default();
    let started = start(&mut supervisor, &data, &settings, &house, (threads, cores), sockets, evidence);
    let (addresses, goodbye) = match started {
        Ok(started) => started,
        Err(failure) => {
            supervisor.stop();
            drop(supervisor.join(JOIN_PATIENCE));
            listeners::remove_traces(&data);
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
    if let Some(goodbye) = goodbye {
        goodbye.say();
    }
    tracing::info!("stopped; everything is sealed");
    outcome
}

fn start(
    supervisor: &mut Supervisor,
    data: &DataDir,
    settings: &Settings,
    house: &house::House,
    (threads, cores): (usize, Option<Cores>),
    sockets: listeners::Sockets,
    evidence: Option<Evidence>,
) -> Result<(api::types::Addresses, Option<Goodbye>), Failure> {
    let no_thread = |error: std::io::Error| {
        Failure::new(
            format!("the system gives no thread: {error}"),
            "check the limits of this user (ulimit -u)",
        )
    };
    match &cores {
        Some(cores) => cores.beside_workers(|| house.start_sealer())?,
        None => house.start_sealer()?,
    }
    let goodbye = evidence.map(|evidence| evidence.start(supervisor)).transpose()?;
    let connections = usize::try_from(settings.limits.connections).unwrap_or(usize::MAX >> 4);
    let listeners::Sockets {
        postgres,
        ssh,
        web,
        control,
        addresses,
        postgres_listener,
        ssh_listener,
        ssh_keys,
        web_tls,
    } = sockets;
    let postgres_host = workers::Host {
        protocol: Postgres::default(),
        house: Arc::clone(&house.gatehouse),
        listener: postgres_listener,
    };
    let ssh_host = workers::Host {
        protocol: Ssh::new(Arc::clone(&ssh_keys), ssh_settings(settings, &addresses)),
        house: Arc::clone(&house.gatehouse),
        listener: ssh_listener,
    };
    let entrances = vec![
        workers::Entrance { socket: postgres, host: Arc::new(postgres_host) },
        workers::Entrance { socket: ssh, host: Arc::new(ssh_host) },
    ];
    // Before anything answers: who has heard from the gateway may look for its addresses.
    let written = serde_json::to_vec_pretty(&addresses).unwrap_or_default();
    data.replace("addresses.json", &written)
        .map_err(|error| Failure::file("write", &data::addresses_file(data.path()), &error))?;
    let control_state = house.control(&addresses, settings, ssh_keys, supervisor.stopping())?;
    let messenger = deliver::Messenger::new(&settings.review.webhook)?;
    workers::start(supervisor, threads, cores.as_ref(), connections, entrances).map_err(no_thread)?;
    let stop = supervisor.stopping();
    let api_connections = usize::try_from(settings.limits.api_connections).unwrap_or(256);
    let gatehouse = Arc::clone(&house.gatehouse);
    let trail = Arc::clone(house.trail());
    let heartbeat = Duration::from_secs(settings.sealer.heartbeat_s);
    supervisor
        .start("control", CONTROL_STACK_BYTES, move || async move {
            let mut stopping = stop.clone();
            let router = api::router(control_state.clone());
            let served = listeners::serve(control, web, web_tls, router, api_connections, stop);
            let ticking = async {
                let mut tick = tokio::time::interval(TICK);
                loop {
                    tick.tick().await;
                    gatehouse.tick(Timestamp::now());
                    if let Err(error) = trail.heartbeat(heartbeat) {
                        tracing::debug!(reason = error.in_full(), "no heartbeat can be recorded");
                    }
                }
            };
            // Sessions that still end after the API has stopped need their reviews kept.
            let keeping = control_state.keep_reviews();
            let api_and_ticks = async {
                tokio::select! {
                    () = served => {}
                    () = ticking => {}
                    () = messenger.run(&control_state) => {}
                }
                let _ = stopping.wait_for(|stop| *stop).await;
                gatehouse.all_gone().await;
            };
            tokio::select! {
                () = api_and_ticks => {}
                () = keeping => {}
            }
            control_state.keep_the_rest().await;
        })
        .map_err(no_thread)?;
    let (gatehouse, stop) = (Arc::clone(&house.gatehouse), supervisor.stopping());
    let every = settings.retention.interval().map_err(|error| Failure::from_error(&error))?;
    supervisor
        .start("expiry", EXPIRY_STACK_BYTES, move || expire(gatehouse, every, stop))
        .map_err(no_thread)?;
    Ok((addresses, goodbye))
}

/// What this process makes is for its user alone; with `group_reads` its group may read it, and nobody else.
pub fn close_to_others(group_reads: bool) {
    let mask = if group_reads { 0o027 } else { 0o077 };
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
}

/// Erases what is to be kept no longer, from time to time.
async fn expire(gatehouse: Arc<session::Gatehouse>, every: Duration, mut stop: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(every);
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            _ = tick.tick() => {}
        }
        // Blocks: the thread is there for nothing else.
        match gatehouse.trail().expire(Timestamp::now()) {
            Ok(trail::Expired { keys: 0, .. }) => {}
            Ok(expired) => {
                tracing::info!(keys = expired.keys, "payloads whose retention was over are erased");
            }
            Err(error) => {
                tracing::error!(
                    error = error.in_full(),
                    "payloads whose retention is over could not be erased; it is tried again"
                );
            }
        }
    }
}

fn ssh_settings(settings: &Settings, addresses: &api::types::Addresses) -> ssh::Settings {
    let bytes = |kib: u64| usize::try_from(kib << 10).unwrap_or(usize::MAX);
    let seconds = |s: u64| (s > 0).then(|| Duration::from_secs(s));
    ssh::Settings {
        keep_output_bytes: bytes(settings.ssh.keep_output_kib),
        keep_input_bytes: bytes(settings.ssh.keep_input_kib),
        keep_recording_bytes: settings.ssh.keep_recording_mib << 20,
        accept_env: settings.ssh.accept_env.clone(),
        keepalive: seconds(settings.ssh.keepalive_s),
        reuse: seconds(settings.ssh.reuse_s),
        joins: addresses
            .postgres
            .as_deref()
            .and_then(|at| at.parse().ok())
            .map(|at| (TargetKind::Postgres, reachable(at)))
            .into_iter()
            .collect(),
    }
}

/// The address by which this machine reaches a listener of its own.
fn reachable(at: SocketAddr) -> SocketAddr {
    let ip = match at.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, at.port())
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
    if let Some(listen) = &options.ssh_listen {
        settings.ssh.listen.clone_from(listen);
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
    eprintln!("  SSH         {}", shown(&addresses.ssh, false, ""));
    eprintln!(
        "  API         {}://{}",
        if addresses.web_tls { "https" } else { "http" },
        shown(&addresses.web, false, "")
    );
    eprintln!("  data        {}", data.path().display());
    eprintln!("What to do next (in another terminal, here):");
    eprintln!("  trailgate target add NAME postgres://USER:PASSWORD@HOST/DATABASE");
    eprintln!("  trailgate target add NAME 'ssh://LOGIN@HOST?key=file:PATH&host_key=file:PATH'");
    eprintln!(
        "  trailgate person add NAME, trailgate agent add NAME --for PERSON, trailgate connect AGENT TARGET"
    );
    eprintln!("  trailgate trail tail, trailgate doctor");
}

/// Three quarters of the cores: what seals, syncs and carries packets needs the rest. Workers that compete with those
/// for a core cost more wake-ups than they carry (decision 35).
fn default_workers() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (cores - cores.div_ceil(4)).max(1)
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
