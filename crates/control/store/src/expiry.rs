//! How long a token works, as people write it.

use std::str::FromStr;
use std::time::Duration;

use vocabulary::{PrincipalKind, Timestamp};

/// What an agent's token gets if nothing is said: 90 days.
pub const DEFAULT_AGENT_LIFETIME: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// Longest lifetime that can be asked for: a hundred years, so that no sum overflows.
const MAX_LIFETIME: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// When a token ends: after a time, at a moment, or never.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expiry {
    /// So long from now: `90d`, `12h`, `30m`, `45s`, `2w`.
    After(Duration),
    /// At that moment: `2027-01-31` (its beginning, in UTC), `2027-01-31T12:00:00Z`.
    At(Timestamp),
    /// `never`.
    Never,
}

/// The text is no expiry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no expiry; write `90d`, `12h`, `30m`, a date such as `2027-01-31`, or `never`")]
pub struct ExpiryError(String);

impl Expiry {
    /// What holds if nothing is said: 90 days for an agent, never for persons and services.
    #[must_use]
    pub const fn default_of(kind: PrincipalKind) -> Self {
        match kind {
            PrincipalKind::Agent => Self::After(DEFAULT_AGENT_LIFETIME),
            PrincipalKind::Person | PrincipalKind::Service => Self::Never,
        }
    }

    /// The moment that is meant, if any.
    #[must_use]
    pub fn moment(self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::After(lifetime) => {
                let micros = u64::try_from(lifetime.min(MAX_LIFETIME).as_micros()).unwrap_or(u64::MAX);
                Some(Timestamp(now.0.saturating_add(micros)))
            }
            Self::At(at) => Some(at),
            Self::Never => None,
        }
    }
}

/// Reads a length of time: a whole number and one of `s`, `m`, `h`, `d`, `w`.
///
/// # Errors
/// [`ExpiryError`] if it is none, is zero, or is longer than a hundred years.
pub fn lifetime(text: &str) -> Result<Duration, ExpiryError> {
    let error = || ExpiryError(text.chars().take(40).collect());
    let (count, seconds) = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400), ("w", 604_800)]
        .into_iter()
        .find_map(|(unit, seconds)| text.strip_suffix(unit).map(|count| (count, seconds)))
        .ok_or_else(error)?;
    if count.is_empty() || !count.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(error());
    }
    let count: u64 = count.parse().map_err(|_| error())?;
    let lifetime = Duration::from_secs(count.checked_mul(seconds).ok_or_else(error)?);
    if lifetime.is_zero() || lifetime > MAX_LIFETIME { Err(error()) } else { Ok(lifetime) }
}

impl FromStr for Expiry {
    type Err = ExpiryError;
    fn from_str(text: &str) -> Result<Self, ExpiryError> {
        if text == "never" {
            return Ok(Self::Never);
        }
        if let Ok(lifetime) = lifetime(text) {
            return Ok(Self::After(lifetime));
        }
        if let Ok(at) = text.parse::<Timestamp>() {
            return Ok(Self::At(at));
        }
        // A day alone is its beginning.
        let midnight = (text.len() == "2027-01-31".len()).then(|| format!("{text}T00:00:00Z").parse().ok());
        midnight.flatten().map(Self::At).ok_or_else(|| ExpiryError(text.chars().take(40).collect()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp(1_795_424_400_000_000);

    #[test]
    fn people_write_it_in_several_ways() {
        let moment = |text: &str| text.parse::<Expiry>().unwrap().moment(NOW).map(|at| at.to_string());
        assert_eq!(moment("90d").unwrap(), "2027-02-21T09:00:00.000000Z");
        assert_eq!(moment("12h").unwrap(), "2026-11-23T21:00:00.000000Z");
        assert_eq!(moment("30m").unwrap(), "2026-11-23T09:30:00.000000Z");
        assert_eq!(moment("2w").unwrap(), "2026-12-07T09:00:00.000000Z");
        assert_eq!(moment("2027-01-31").unwrap(), "2027-01-31T00:00:00.000000Z");
        assert_eq!(moment("2027-01-31T12:00:00+02:00").unwrap(), "2027-01-31T10:00:00.000000Z");
        assert_eq!(moment("never"), None);
        assert_eq!(
            Expiry::default_of(PrincipalKind::Agent).moment(NOW),
            "90d".parse::<Expiry>().unwrap().moment(NOW)
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            "",
            "90",
            "d",
            "0d",
            "-1d",
            "+1d",
            "1.5h",
            "90 d",
            "9999999999999999d",
            "1y",
            "yesterday",
            "2027-13-01",
        ] {
            assert!(bad.parse::<Expiry>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = text.parse::<Expiry>();
        }
    }
}
