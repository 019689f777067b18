//! What policy said of a command.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Whether a command may go on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Verdict {
    /// It flows.
    Permit = 1,
    /// It is refused.
    Forbid = 2,
}

impl Verdict {
    /// The code in a leaf.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The verdict that a leaf's code stands for.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Permit),
            2 => Some(Self::Forbid),
            _ => None,
        }
    }
}

/// SHA-256 of the policy text that decided; shown as `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PolicyHash(pub [u8; 32]);

impl fmt::Display for PolicyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PolicyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for PolicyHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for PolicyHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return <[u8; 32]>::deserialize(deserializer).map(Self);
        }
        let text = String::deserialize(deserializer)?;
        let hex = text.strip_prefix("sha256:").unwrap_or(&text).as_bytes();
        let mut hash = [0u8; 32];
        let (pairs, rest) = hex.as_chunks::<2>();
        if pairs.len() != hash.len() || !rest.is_empty() {
            return Err(serde::de::Error::custom("a policy hash has 64 hexadecimal digits"));
        }
        for (byte, [high, low]) in hash.iter_mut().zip(pairs) {
            let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
            let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
                return Err(serde::de::Error::custom("a policy hash has 64 hexadecimal digits"));
            };
            *byte = high << 4 | low;
        }
        Ok(Self(hash))
    }
}

/// What policy said, and which policy it was.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Decision {
    /// Permit or forbid.
    pub effect: Verdict,
    /// Names of the policies that decided.
    pub policies: Vec<String>,
    /// Hash of the whole policy in force.
    pub policy_hash: PolicyHash,
}
