//! Numbers with a unit, as annotations have them.

use std::time::Duration;

/// `5s`, `250ms`, `2m`, `1h`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let ms_each = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(ms_each).filter(|ms| *ms > 0).map(Duration::from_millis)
}

/// `65536`, `64KiB`, `1MiB`, `2GiB`, and the decimal `kB`, `MB`, `GB`.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let each = match unit {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(each)
}

/// A number and nothing else.
pub(crate) fn count(text: &str) -> Option<u64> {
    split(text).filter(|(_, unit)| unit.is_empty()).map(|(number, _)| number)
}

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_count() {
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("10s"), Some(Duration::from_secs(10)));
        assert_eq!(duration("2 m"), Some(Duration::from_secs(120)));
        assert_eq!(bytes("1MiB"), Some(1_048_576));
        assert_eq!(bytes("0"), Some(0));
        assert_eq!(bytes("2kB"), Some(2_000));
        assert_eq!(count("600"), Some(600));
        for wrong in ["", "s", "10", "-1s", "1.5s", "1d", "0s", "99999999999999999999s"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
        for wrong in ["", "MiB", "1 mib", "-1", "99999999999GiB"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
        assert_eq!(count("6 hundred"), None);
    }
}
