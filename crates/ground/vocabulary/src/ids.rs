//! Typed identifiers. Each is opaque, ordered by creation time where it carries one, and prints as a
//! short lower-case string without punctuation that a shell would touch.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Crockford's base 32 in lower case: no `i`, `l`, `o`, `u`, so that an id survives being read aloud.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Length of 16 bytes in base 32.
const TEXT_LEN: usize = 26;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text has the wrong length or a character outside the alphabet.
    #[error("`{0}` is not an id: an id is 26 characters of 0-9 and a-z without i, l, o and u")]
    Malformed(String),
    /// An entry id needs a session and a number.
    #[error("`{0}` is not an entry id: write it as the trail shows it, SESSION-NUMBER")]
    NoSequence(String),
    /// A prefixed id lacks its prefix.
    #[error("`{0}` is not an id of this kind: it should begin with `{1}`")]
    Prefix(String, &'static str),
}

fn encode(bytes: [u8; 16]) -> String {
    let mut value = u128::from_be_bytes(bytes);
    let mut text = [b'0'; TEXT_LEN];
    for slot in text.iter_mut().rev() {
        let digit = usize::from((value & 31) as u8);
        *slot = ALPHABET.get(digit).copied().unwrap_or(b'0');
        value >>= 5;
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn decode(text: &str) -> Result<[u8; 16], IdError> {
    let malformed = || IdError::Malformed(text.chars().take(64).collect());
    // 26 digits hold 130 bits: the first may only use its low three.
    if text.len() != TEXT_LEN || text.as_bytes().first().is_some_and(|first| *first > b'7') {
        return Err(malformed());
    }
    let mut value: u128 = 0;
    for byte in text.bytes() {
        let digit = ALPHABET.iter().position(|known| *known == byte).ok_or_else(malformed)?;
        value = (value << 5) | digit as u128;
    }
    Ok(value.to_be_bytes())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// When it was made, in milliseconds since 1970.
            #[must_use]
            pub fn unix_ms(&self) -> u64 {
                let [a, b, c, d, e, f, ..] = self.0;
                u64::from_be_bytes([0, 0, a, b, c, d, e, f])
            }

            /// A new id from the wall clock (milliseconds since 1970) and 80 random bits.
            #[must_use]
            pub fn from_parts(unix_ms: u64, random: [u8; 10]) -> Self {
                let mut bytes = [0u8; 16];
                let (time, tail) = bytes.split_at_mut(6);
                time.copy_from_slice(&unix_ms.to_be_bytes()[2..]);
                tail.copy_from_slice(&random);
                Self(bytes)
            }

            /// The id as 16 bytes, big-endian, time first.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// The id that these 16 bytes stand for.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                f.write_str(&encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let bare = text
                    .strip_prefix($prefix)
                    .ok_or_else(|| IdError::Prefix(text.chars().take(64).collect(), $prefix))?;
                decode(bare).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = String::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    <[u8; 16]>::deserialize(deserializer).map(Self)
                }
            }
        }
    };
}

id!(
    /// One connection of a client, or one run of a gateway (its *node session*).
    SessionId, ""
);
id!(
    /// An agent, a person or a service.
    PrincipalId, "pr_"
);
id!(
    /// A place that principals reach through the gateway.
    TargetId, "ta_"
);
id!(
    /// What proves a principal: a token, a key, a certificate. Never the secret itself.
    CredentialId, "cr_"
);
id!(
    /// A question to people: may this command run?
    ReviewId, "rv_"
);
id!(
    /// A gateway installation; it has its own journal and its own log.
    NodeId, "no_"
);

/// One entry of the trail: the session it belongs to and its place there, counted from 1 without gaps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// The session.
    pub session: SessionId,
    /// The place in the session, from 1.
    pub seq: u64,
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.session, self.seq)
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for EntryId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let missing = || IdError::NoSequence(text.chars().take(64).collect());
        let (session, seq) = text.split_once('-').ok_or_else(missing)?;
        Ok(Self { session: session.parse()?, seq: seq.parse().map_err(|_| missing())? })
    }
}

impl Serialize for EntryId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EntryId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ids_survive_text(bytes: [u8; 16], seq: u64) {
            let session = SessionId::from_bytes(bytes);
            prop_assert_eq!(session.to_string().parse::<SessionId>(), Ok(session));
            let entry = EntryId { session, seq };
            prop_assert_eq!(entry.to_string().parse::<EntryId>(), Ok(entry));
        }

        #[test]
        fn any_text_is_an_id_or_an_error(text: String) {
            let _ = text.parse::<EntryId>();
        }

        #[test]
        fn ids_sort_by_time(earlier in 0u64..(1 << 47), later in 0u64..(1 << 47), a: [u8; 10], b: [u8; 10]) {
            prop_assume!(earlier < later);
            let first = SessionId::from_parts(earlier, a).to_string();
            let second = SessionId::from_parts(later, b).to_string();
            prop_assert!(first < second);
        }
    }

    #[test]
    fn a_prefix_tells_ids_apart() {
        let principal = PrincipalId::from_bytes([7; 16]).to_string();
        assert!(principal.starts_with("pr_"));
        assert!(matches!(principal.parse::<TargetId>(), Err(IdError::Prefix(..))));
    }
}
