//! SSH through the gateway (RFC 4250–4254, OpenSSH's PROTOCOL): both legs, and everything between that the trail should
//! know of. See `README.md` beside the sources.

mod algorithms;
mod client_side;
mod client_stream;
mod command;
mod files;
mod forward;
mod inbox;
mod join;
mod keep;
mod keys;
mod lines;
mod login;
mod outflow;
mod pool;
mod program;
mod recording;
mod refusal;
mod relay;
mod screen;
mod serve;
mod shell;
mod target_url;
mod typed;
mod upstream;
mod visit;
mod wire;

use std::net::SocketAddr;
use std::time::Duration;

use vocabulary::TargetKind;

pub use keys::{GatewayKeys, KeysError};
pub use serve::Ssh;
pub use upstream::{Server, UpstreamError, test_target};

/// What operators decide about SSH.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Bytes kept of each command's standard output, and as many of its standard error.
    pub keep_output_bytes: usize,
    /// Bytes kept of each command's standard input.
    pub keep_input_bytes: usize,
    /// Bytes kept of the recording of a terminal.
    pub keep_recording_bytes: u64,
    /// Environment variables that clients may set; `*` at the end stands for any rest.
    pub accept_env: Vec<String>,
    /// Silence after which a client is asked whether it is there.
    pub keepalive: Option<Duration>,
    /// How long a connection to a target is kept for the next session; `None` opens one for each.
    pub reuse: Option<Duration>,
    /// The gateway's own listeners for other protocols: a local forwarding to an address that one of their targets has
    /// is joined to them.
    pub joins: Vec<(TargetKind, SocketAddr)>,
}
