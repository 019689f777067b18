//! Who is at the door: credential → principal.
//!
//! Everything here is pure: no sockets, no files, and the clock and every nonce come from the caller (each
//! nonce type has a constructor that draws one). [`principal`] is what the gateway knows of somebody,
//! [`token`] the secret that it hands out once, [`scram`] the exchange that proves the secret without sending
//! it, [`authenticate`] the verdict, and [`throttle`] what slows down those who guess.
//!
//! *Invariant:* a client that is turned away hears [`authenticate::REFUSED`] whatever the reason; the trail
//! gets the [`Rejected`] with the real one.

pub mod authenticate;
pub mod principal;
pub mod scram;
pub mod ssh_key;
pub mod throttle;
pub mod token;

pub use authenticate::{Login, REFUSED, Rejected};
pub use principal::{Credential, CredentialState, Principal, Role};
pub use ssh_key::{SshKey, SshKeyError, SshPublicKey};
pub use throttle::{Throttle, Throttled};
pub use token::{Token, TokenDigest, TokenError};
