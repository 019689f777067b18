//! What every protocol is to the gateway.

use std::future::Future;

use tokio::net::TcpStream;
use vocabulary::TargetKind;

use crate::door::Door;

/// What a connection came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A session was opened and has ended; the trail says how.
    Session,
    /// Nobody came in; the trail says who tried, and the client why not.
    TurnedAway,
    /// The connection only carried a signal for another one.
    Signal,
}

/// A protocol that the gateway speaks. One value serves all connections of its listeners, on every worker.
pub trait Protocol: Send + Sync {
    /// Its name.
    fn name(&self) -> TargetKind;

    /// Serves one accepted connection to its end. The future stays on the thread that first polls it, and never
    /// panics on what the client or the target sends.
    fn serve(&self, client: TcpStream, door: Door) -> impl Future<Output = Ended>;
}
