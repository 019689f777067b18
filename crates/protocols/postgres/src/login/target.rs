//! Which target a client asks for: by user name, by TLS server name, or by database.

/// What a client wrote, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The target's name as written; it may not exist.
    pub target: String,
    /// The database at the target, `None` for the target's own.
    pub database: Option<Vec<u8>>,
}

/// The principal's name in the startup parameter `user`: all before the first `~`.
#[must_use]
pub fn principal(user: &[u8]) -> &[u8] {
    split_at(user, b'~').map_or(user, |(principal, _)| principal)
}

/// Reads what a client asks for. In this order:
///
/// 1. `user=NAME~TARGET`: the database parameter is the target's database.
/// 2. The first label of the TLS server name, if it is a target's name: `orders.gateway.example`.
/// 3. `database=TARGET` or `database=TARGET/DATABASE`.
///
/// libpq sends the user name as the database where none was given; that counts as none. So does, where the target
/// is known otherwise, the target's own name; `TARGET/DATABASE` says the database in any case.
#[must_use]
pub fn asked(
    user: &[u8],
    database: Option<&[u8]>,
    server_name: Option<&str>,
    exists: impl Fn(&str) -> bool,
) -> Asked {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let given = database.filter(|database| !database.is_empty() && *database != user);
    let label = server_name.and_then(|name| name.split('.').next()).map(str::to_ascii_lowercase);
    let known = match split_at(user, b'~') {
        Some((_, target)) if !target.is_empty() => Some(text(target)),
        _ => label.filter(|label| exists(label)),
    };
    if let Some(target) = known {
        let database = match given.map(|given| (given, split_at(given, b'/'))) {
            None => None,
            Some((given, _)) if given == target.as_bytes() => None,
            Some((_, Some((first, rest)))) if first == target.as_bytes() => some(rest),
            Some((given, _)) => some(given),
        };
        return Asked { target, database };
    }
    // Only here: an agent may well have the name of a target.
    let named = database.filter(|database| !database.is_empty()).unwrap_or(user);
    match split_at(named, b'/') {
        Some((target, rest)) => Asked { target: text(target), database: some(rest) },
        None => Asked { target: text(named), database: None },
    }
}

fn some(database: &[u8]) -> Option<Vec<u8>> {
    (!database.is_empty()).then(|| database.to_vec())
}

fn split_at(text: &[u8], mark: u8) -> Option<(&[u8], &[u8])> {
    let place = text.iter().position(|byte| *byte == mark)?;
    let (before, after) = text.split_at_checked(place)?;
    Some((before, after.get(1..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_way_to_name_a_target() {
        let cases = [
            // user, database, server name, target, database there
            ("bot", Some("orders"), None, "orders", None),
            ("bot", Some("orders/live"), None, "orders", Some("live")),
            ("bot", Some("orders/a/b"), None, "orders", Some("a/b")),
            ("bot", Some("orders/"), None, "orders", None),
            ("bot~orders", Some("live"), None, "orders", Some("live")),
            ("bot~orders", None, None, "orders", None),
            // libpq's own choice of a database.
            ("bot~orders", Some("bot~orders"), None, "orders", None),
            ("bot~orders", Some("orders"), None, "orders", None),
            ("bot~orders", Some("orders/orders"), None, "orders", Some("orders")),
            ("bot", Some("bot"), Some("Orders.gw.example"), "orders", None),
            ("bot", Some("live"), Some("orders.gw.example"), "orders", Some("live")),
            ("bot", Some("orders/live"), Some("orders"), "orders", Some("live")),
            // The gateway's own name is no target.
            ("bot", Some("orders"), Some("gw.example"), "orders", None),
            ("bot~other", Some("x"), Some("orders.gw"), "other", Some("x")),
            ("orders", Some("orders"), None, "orders", None),
            ("bot", Some("bot"), None, "bot", None),
            ("bot", None, None, "bot", None),
            ("bot~", Some("orders"), None, "orders", None),
        ];
        for (user, database, server_name, target, there) in cases {
            let found =
                asked(user.as_bytes(), database.map(str::as_bytes), server_name, |name| name == "orders");
            let expected = Asked {
                target: target.to_owned(),
                database: there.map(|database| database.as_bytes().to_vec()),
            };
            assert_eq!(found, expected, "user={user} database={database:?} sni={server_name:?}");
            assert_eq!(principal(user.as_bytes()), user.split('~').next().unwrap().as_bytes());
        }
    }

    proptest! {
        #[test]
        fn any_names_are_read(user: Vec<u8>, database: Option<Vec<u8>>, name: Option<String>, known: bool) {
            let found = asked(&user, database.as_deref(), name.as_deref(), |_| known);
            prop_assert!(found.database.is_none_or(|database| !database.is_empty()));
        }
    }
}
