//! Why a target could not be reached or logged in to.

use std::time::Duration;

/// Why a target could not be reached or logged in to. One sentence; [`advice`](Self::advice) says what to do.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The stored URL can't be read.
    #[error("the target's URL can't be read")]
    Url,
    /// A stored file is not what it should be.
    #[error("the target's `{0}` can't be used")]
    Material(&'static str),
    /// The private key can't be used.
    #[error("the target's private key can't be used: {0}")]
    Key(#[source] russh::keys::Error),
    /// Nothing to log in with.
    #[error("the gateway has neither key nor password for the target")]
    NoCredential,
    /// No connection.
    #[error("can't connect to {place}: {source}")]
    Connect {
        /// Where.
        place: String,
        /// Why.
        source: std::io::Error,
    },
    /// It took too long.
    #[error("the target did not let the gateway in within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The connection failed.
    #[error("the connection to the target failed: {0}")]
    Broken(#[source] std::io::Error),
    /// No host key is pinned.
    #[error("the target's host key is not known to the gateway ({fingerprint}), so it is not trusted")]
    UnknownHost {
        /// Of the key that was shown.
        fingerprint: String,
        /// The key itself.
        key: String,
    },
    /// The host key is another one.
    #[error(
        "the target shows another host key than the one that is pinned ({fingerprint}): it may be somebody else"
    )]
    OtherHost {
        /// Of the key that was shown.
        fingerprint: String,
    },
    /// The host's certificate is not good.
    #[error(
        "the target's host certificate ({fingerprint}) is not from a pinned authority, not for this host, or not valid now"
    )]
    Certificate {
        /// Of the certified key.
        fingerprint: String,
    },
    /// The target does not let us in.
    #[error("the target refused the login as `{login}` with the gateway's {method}")]
    Refused {
        /// The account.
        login: String,
        /// `key`, `certificate` or `password`.
        method: &'static str,
    },
    /// It wants more than one proof.
    #[error("the target wants a second factor, which the gateway does not have")]
    SecondFactor,
    /// Anything else in the protocol.
    #[error("the SSH connection to the target failed: {0}")]
    Handshake(#[source] russh::Error),
}

impl UpstreamError {
    /// Which side has to act: `gateway`, `target` or `network`.
    #[must_use]
    pub const fn fault(&self) -> &'static str {
        match self {
            Self::Url
            | Self::Material(_)
            | Self::Key(_)
            | Self::NoCredential
            | Self::UnknownHost { .. }
            | Self::Refused { .. } => "gateway",
            Self::Connect { .. } | Self::TimedOut(_) | Self::Broken(_) => "network",
            Self::OtherHost { .. } | Self::Certificate { .. } | Self::SecondFactor | Self::Handshake(_) => {
                "target"
            }
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Url | Self::Material(_) => {
                "remove the target and add it again with the right URL and files"
            }
            Self::Key(_) => "add the target again with a private key that has no passphrase",
            Self::NoCredential => "add the target again with ?key=file:PATH",
            Self::UnknownHost { .. } => {
                "compare the fingerprint with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` at the target, and add the target again with ?host_key=file:PATH (that file, or what ssh-keyscan prints)"
            }
            Self::OtherHost { .. } => {
                "find out why it changed; if it was the target's owner, add the target again with the new host_key"
            }
            Self::Certificate { .. } => {
                "compare host_ca in the target's URL with the authority that signed it"
            }
            Self::Refused { .. } => {
                "put the gateway's public key into the account's authorized_keys at the target, or add the target again with the right key or password"
            }
            Self::SecondFactor => "let the gateway's key in alone: AuthenticationMethods in its sshd_config",
            Self::Connect { .. } | Self::TimedOut(_) | Self::Broken(_) => {
                "check host and port in the URL, that sshd runs there, and the firewall"
            }
            Self::Handshake(_) => "check that an SSH server answers there, and see its log",
        }
    }
}
