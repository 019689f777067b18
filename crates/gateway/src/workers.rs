//! Threads that carry sessions, and the one that accepts their connections.
//!
//! Both halves of a session live on one thread for its whole life. Connections are handed out in turn; a worker whose
//! queue is full makes the accepting thread wait, and the rest waits in the kernel's queue.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use session::{Ended, Gatehouse, ListenerSettings, Protocol};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use vocabulary::{ClientInfo, TargetKind};

use crate::cores::Cores;
use crate::supervisor::Supervisor;

/// Stack of a worker, in bytes. SQL is parsed on it, recursively; only what is used becomes memory.
pub const WORKER_STACK_BYTES: usize = 256 << 20;

/// Connections that wait for one worker.
const QUEUE: usize = 64;

/// Pause after an accept that failed, so that a lack of file descriptors does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection on its way to a worker.
struct Arrival {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    /// Its place among the connections that the gateway takes at once.
    place: OwnedSemaphorePermit,
    host: Arc<dyn Hosts>,
}

/// A listener: its socket, and who serves the connections that come by it.
pub struct Entrance {
    /// Where clients connect.
    pub socket: std::net::TcpListener,
    /// Serves them.
    pub host: Arc<dyn Hosts>,
}

/// Serves connections of one listener, whatever they speak.
pub trait Hosts: Send + Sync {
    /// What the clients of the listener speak.
    fn speaks(&self) -> TargetKind;

    /// Serves one connection to its end, on the thread that polls it.
    fn serve(&self, stream: TcpStream, peer: SocketAddr) -> Pin<Box<dyn Future<Output = Ended> + '_>>;
}

impl<P: Protocol> Hosts for Host<P> {
    fn speaks(&self) -> TargetKind {
        self.protocol.name()
    }

    fn serve(&self, stream: TcpStream, peer: SocketAddr) -> Pin<Box<dyn Future<Output = Ended> + '_>> {
        let client = ClientInfo { addr: peer.to_string(), ..ClientInfo::default() };
        Box::pin(self.protocol.serve(stream, self.house.door(&self.listener, client)))
    }
}

/// What every session needs; one for all workers, since a signal for a session may arrive at another worker.
pub struct Host<P> {
    /// What the clients of the listener speak.
    pub protocol: P,
    /// Where sessions enter.
    pub house: Arc<Gatehouse>,
    /// The listener that they come by.
    pub listener: Arc<ListenerSettings>,
}

/// Starts `threads` workers, on `cores` of their own if there are any, and, for each listener, the thread that accepts
/// connections for them.
///
/// Workers end when the accepting thread has ended (on stop) and their last session is over.
///
/// # Errors
/// If the system gives no thread.
pub fn start(
    supervisor: &mut Supervisor,
    threads: usize,
    cores: Option<&Cores>,
    connections: usize,
    entrances: Vec<Entrance>,
) -> io::Result<()> {
    let mut queues = Vec::with_capacity(threads);
    for index in 0..threads {
        let (queue, arrivals) = mpsc::channel(QUEUE);
        queues.push(queue);
        let cores = cores.cloned();
        supervisor.start(&format!("worker-{index}"), WORKER_STACK_BYTES, move || {
            if let Some(cores) = cores {
                cores.bind_worker(index);
            }
            carry(arrivals)
        })?;
    }
    let places = Arc::new(Semaphore::new(connections));
    for entrance in entrances {
        let (queues, places, stop) = (queues.clone(), Arc::clone(&places), supervisor.stopping());
        let name = format!("accept-{}", entrance.host.speaks());
        supervisor.start(&name, 2 << 20, move || accept(entrance, queues, places, stop))?;
    }
    Ok(())
}

async fn accept(
    entrance: Entrance,
    queues: Vec<mpsc::Sender<Arrival>>,
    places: Arc<Semaphore>,
    mut stop: watch::Receiver<bool>,
) {
    let Entrance { socket, host } = entrance;
    let socket = match TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(%error, "the {} listener can't be used", host.speaks()),
    };
    let mut turn = queues.iter().cycle();
    let forever = async {
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let (stream, peer) = match socket.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "can't accept a connection; others go on");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(stream) = stream.into_std() else { continue };
            let Some(queue) = turn.next() else { return };
            if queue.send(Arrival { stream, peer, place, host: Arc::clone(&host) }).await.is_err() {
                return tracing::error!("a worker is gone");
            }
        }
    };
    tokio::select! {
        () = forever => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

async fn carry(mut arrivals: mpsc::Receiver<Arrival>) {
    let mut sessions = JoinSet::new();
    loop {
        let arrival = tokio::select! {
            arrival = arrivals.recv() => arrival,
            Some(ended) = sessions.join_next(), if !sessions.is_empty() => {
                ended_well(ended);
                continue;
            }
        };
        let Some(arrival) = arrival else { break };
        sessions.spawn_local(serve(arrival));
    }
    while let Some(ended) = sessions.join_next().await {
        ended_well(ended);
    }
}

async fn serve(arrival: Arrival) {
    let Arrival { stream, peer, place, host } = arrival;
    let _place = place;
    let stream = match stream.set_nodelay(true).and_then(|()| TcpStream::from_std(stream)) {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!(%error, %peer, "a connection was gone before it began"),
    };
    let ended = host.serve(stream, peer).await;
    tracing::debug!(?ended, %peer, "a connection ended");
}

/// One session's fault must not end the others: its panic is caught at its task's edge and said here.
fn ended_well(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a session ended by a fault of the gateway; the others go on");
    }
}
