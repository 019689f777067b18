//! Threads that carry sessions, and the one that accepts their connections.
//!
//! Both halves of a session live on one thread for its whole life. Connections are handed out in turn; a worker whose
//! queue is full makes the accepting thread wait, and the rest waits in the kernel's queue.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use session::{Gatehouse, ListenerSettings, Protocol};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use vocabulary::ClientInfo;

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

/// Starts `threads` workers and the thread that accepts connections for them.
///
/// Workers end when the accepting thread has ended (on stop) and their last session is over.
///
/// # Errors
/// If the system gives no thread.
pub fn start<P: Protocol + 'static>(
    supervisor: &mut Supervisor,
    threads: usize,
    connections: usize,
    socket: std::net::TcpListener,
    host: &Arc<Host<P>>,
) -> io::Result<()> {
    let mut queues = Vec::with_capacity(threads);
    for index in 0..threads {
        let (queue, arrivals) = mpsc::channel(QUEUE);
        queues.push(queue);
        let host = Arc::clone(host);
        supervisor.start(&format!("worker-{index}"), WORKER_STACK_BYTES, move || carry(arrivals, host))?;
    }
    let stop = supervisor.stopping();
    supervisor.start("accept", 2 << 20, move || accept(socket, queues, connections, stop))
}

async fn accept(
    socket: std::net::TcpListener,
    queues: Vec<mpsc::Sender<Arrival>>,
    connections: usize,
    mut stop: watch::Receiver<bool>,
) {
    let socket = match TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(%error, "the PostgreSQL listener can't be used"),
    };
    let places = Arc::new(Semaphore::new(connections));
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
            if queue.send(Arrival { stream, peer, place }).await.is_err() {
                return tracing::error!("a worker is gone");
            }
        }
    };
    tokio::select! {
        () = forever => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

async fn carry<P: Protocol + 'static>(mut arrivals: mpsc::Receiver<Arrival>, host: Arc<Host<P>>) {
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
        sessions.spawn_local(serve(arrival, Arc::clone(&host)));
    }
    while let Some(ended) = sessions.join_next().await {
        ended_well(ended);
    }
}

async fn serve<P: Protocol>(arrival: Arrival, host: Arc<Host<P>>) {
    let Arrival { stream, peer, place } = arrival;
    let _place = place;
    let client = ClientInfo { addr: peer.to_string(), ..ClientInfo::default() };
    let stream = match stream.set_nodelay(true).and_then(|()| TcpStream::from_std(stream)) {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!(%error, %peer, "a connection was gone before it began"),
    };
    let door = host.house.door(&host.listener, client);
    let ended = host.protocol.serve(stream, door).await;
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
