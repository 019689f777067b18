//! Which entries of the trail: the filters of `trail list` and `trail tail`, and how times are written.

use api::filters::Filters;
use clap::Args;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use vocabulary::{Class, Kind, Name, SessionId, Status, Timestamp};

/// Filters; all given ones must hold.
#[derive(Args, Debug, Clone, Default)]
pub struct FilterArgs {
    /// Of this agent, person or service, or on behalf of this person
    #[arg(long, value_name = "NAME")]
    pub principal: Option<Name>,
    /// On this target
    #[arg(long, value_name = "NAME")]
    pub target: Option<Name>,
    /// Of this kind: command, session.start, auth.failed, control.changed, …; may be repeated
    #[arg(long = "kind", value_name = "KIND")]
    pub kinds: Vec<Kind>,
    /// Of this class: read, write, define, administer, execute, transfer, session, unknown; may be repeated
    #[arg(long = "class", value_name = "CLASS")]
    pub classes: Vec<Class>,
    /// That ended like this: ok, error, denied, cancelled, expired, unknown; may be repeated
    #[arg(long = "status", value_name = "STATUS")]
    pub statuses: Vec<Status>,
    /// Not before: 15m, 2h, 7d ago, a date, or a time as the trail writes it
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<Timestamp>,
    /// Not after: 15m, 2h, 7d ago, a date, or a time as the trail writes it
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<Timestamp>,
    /// With this text in the command, its parameters or its message; in lower case it finds either
    #[arg(long, value_name = "TEXT")]
    pub grep: Option<String>,
    /// Of this session
    #[arg(long, value_name = "ID")]
    pub session: Option<SessionId>,
    /// At most so many [default: 50; `tail`: no end]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
}

impl FilterArgs {
    /// The filters as the API has them.
    pub fn to_filters(&self) -> Filters {
        Filters {
            principal: self.principal.as_ref().map(ToString::to_string),
            target: self.target.as_ref().map(ToString::to_string),
            kind: joined(&self.kinds),
            class: joined(&self.classes),
            status: joined(&self.statuses),
            since: self.since,
            until: self.until,
            grep: self.grep.clone(),
            session: self.session,
            limit: self.limit,
        }
    }

    /// The filters as the API's query parameters, without the limit.
    pub fn to_query(&self) -> Vec<(&'static str, String)> {
        let Filters { principal, target, kind, class, status, since, until, grep, session, limit: _ } =
            self.to_filters();
        let pairs = [
            ("principal", principal),
            ("target", target),
            ("kind", kind),
            ("class", class),
            ("status", status),
            ("since", since.map(|at| at.to_string())),
            ("until", until.map(|at| at.to_string())),
            ("grep", grep),
            ("session", session.map(|id| id.to_string())),
        ];
        pairs.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }
}

fn joined<T: std::fmt::Display>(values: &[T]) -> Option<String> {
    let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
    (!texts.is_empty()).then(|| texts.join(","))
}

/// A length of time in seconds: `90d`, `12h`, `30m`, `45s`, `2w`.
pub fn duration_s(text: &str) -> Result<u64, String> {
    let explain = || "write a length of time as 45s, 30m, 12h, 90d or 2w".to_owned();
    let unit = text.chars().last().ok_or_else(explain)?;
    let unit_s: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        'w' => 7 * 24 * 60 * 60,
        _ => return Err(explain()),
    };
    let count: u64 = text.trim_end_matches(unit).parse().map_err(|_| explain())?;
    count.checked_mul(unit_s).filter(|total| *total <= 100 * 365 * 24 * 60 * 60).ok_or_else(explain)
}

/// A moment: a length of time before now, a date or a time of day in UTC, or RFC 3339.
pub fn moment(text: &str) -> Result<Timestamp, String> {
    let text = text.trim().trim_end_matches(" ago");
    if let Ok(ago_s) = duration_s(text) {
        return Ok(Timestamp(Timestamp::now().0.saturating_sub(ago_s.saturating_mul(1_000_000))));
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let at: DateTime = text.parse().map_err(|_| {
        "write a time as 15m, 2h or 7d (ago), as 2026-11-23, or as 2026-11-23T09:00:00Z".to_owned()
    })?;
    let at = TimeZone::UTC.to_timestamp(at).map_err(|error| error.to_string())?;
    Ok(Timestamp(u64::try_from(at.as_microsecond()).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time() {
        assert_eq!(duration_s("90d"), Ok(7_776_000));
        assert_eq!(duration_s("12h"), Ok(43_200));
        for bad in ["", "d", "90", "-1d", "1.5h", "1y", "dd", "99999999999w", "9é"] {
            assert!(duration_s(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn moments() {
        assert_eq!(moment("2026-11-23").unwrap().to_string(), "2026-11-23T00:00:00.000000Z");
        assert_eq!(moment("2026-11-23T09:00:00.123456Z").unwrap(), Timestamp(1_795_424_400_123_456));
        assert_eq!(moment("2026-11-23T09:00").unwrap().to_string(), "2026-11-23T09:00:00.000000Z");
        let then = moment("2h ago").unwrap();
        let ago_us = Timestamp::now().micros_since(then);
        assert!((7_200_000_000..7_260_000_000).contains(&ago_us), "{ago_us}");
        assert!(moment("yesterday").is_err());
    }

    #[test]
    fn filters_become_a_query() {
        let filters = FilterArgs {
            kinds: vec![Kind::Command, Kind::AuthFailed],
            grep: Some("a&b".into()),
            ..FilterArgs::default()
        };
        let query = filters.to_query();
        assert_eq!(query, [("kind", "command,auth.failed".to_owned()), ("grep", "a&b".to_owned())]);
    }
}
