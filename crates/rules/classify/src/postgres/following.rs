//! Follows the settings of one session, so that its next text is read as its server will read it.

use std::sync::Arc;

use vocabulary::{Class, Facts, SettingChange, TransactionControl};

use super::UNKNOWN_VALUE;
use super::settings::{ClientEncoding, SearchPath, Settings};

/// Most different paths that one transaction may have gone through and its path still be known in part.
const MAX_SEEN: usize = 16;

/// The settings of one session, kept up to date from what its server reports and completes.
///
/// `standard_conforming_strings` and `client_encoding` are always reported by the server, the search path only since
/// PostgreSQL 18, the role never. These two are concluded: from SET, RESET and `set_config` that succeeded, and from
/// what ends of transactions undo. Code may have set them too, and no text says so: then [`Following::in_doubt`], until
/// the server was asked ([`QUESTION`]) and its answer [told](Following::told).
///
/// *Invariant*: where the path can't be known, [`Following::settings`] trusts the catalog only if every path trusts it
/// that it can be.
#[derive(Debug, Clone)]
pub struct Following {
    now: Settings,
    /// A copy of the path in `now`, for those who remember under which path they judged.
    shared: Arc<SearchPath>,
    path: Tracked<SearchPath>,
    /// `None`: the one that the session began with.
    role: Tracked<Option<String>>,
    /// The transaction under way can only be undone.
    failed: bool,
    /// The server itself gave the path since it was last ready.
    reported: bool,
    /// Code has run since the server was last asked.
    in_doubt: bool,
    /// A transaction is under way, as the server said when it was last ready.
    open: bool,
    /// The server's answer was of a transaction that has not ended: it may end with it.
    told_for_now: bool,
}

/// What to ask a server for what code may have set: one row of one column for each of its statements.
pub const QUESTION: &str = "SHOW search_path; SHOW role";

/// A setting that transactions undo.
#[derive(Debug, Clone)]
struct Tracked<T> {
    now: T,
    /// What RESET goes back to.
    start: T,
    /// Since the last moment without a transaction, if it changed.
    changed: Option<Box<Changed<T>>>,
}

#[derive(Debug, Clone)]
struct Changed<T> {
    /// The value from before.
    before: T,
    /// Each that there was since, `before` among them.
    seen: Vec<T>,
    /// The one that counts again at the end, if the present one is LOCAL.
    at_end: Option<T>,
}

impl<T: Clone + PartialEq> Tracked<T> {
    fn new(start: T) -> Self {
        Self { now: start.clone(), start, changed: None }
    }

    fn change(&mut self, new: T, local: bool) {
        let old = std::mem::replace(&mut self.now, new.clone());
        let changed = self.changed.get_or_insert_with(|| {
            Box::new(Changed { before: old.clone(), seen: vec![old.clone()], at_end: None })
        });
        if local {
            changed.at_end.get_or_insert(old);
        } else {
            changed.at_end = None;
        }
        if !changed.seen.contains(&new) {
            changed.seen.push(new);
        }
    }

    /// A transaction has ended well.
    fn ended(&mut self) {
        if let Some(value) = self.changed.take().and_then(|changed| changed.at_end) {
            self.now = value;
        }
    }

    /// A transaction is undone.
    fn undone(&mut self) {
        if let Some(changed) = self.changed.take() {
            self.now = changed.before;
        }
    }

    /// A savepoint is gone back to. To which of the values is not followed: `any` makes one of all.
    fn undone_in_part(&mut self, any: impl FnOnce(&[T]) -> T) {
        if let Some(changed) = &mut self.changed {
            self.now = any(&changed.seen);
            // Whether the present one is LOCAL isn't known any more either; `before` is among them all.
            changed.at_end = Some(self.now.clone());
        }
    }
}

/// Whether a transaction is under way, as ReadyForQuery tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStatus {
    /// None is.
    Idle,
    /// One is.
    Open,
    /// One is, and can only be undone.
    Failed,
}

impl Following {
    /// A session that begins with these settings.
    #[must_use]
    pub fn new(start: Settings) -> Self {
        Self {
            shared: Arc::new(start.search_path.clone()),
            path: Tracked::new(start.search_path.clone()),
            role: Tracked::new(None),
            now: start,
            failed: false,
            reported: false,
            in_doubt: false,
            open: false,
            told_for_now: false,
        }
    }

    /// The settings that the next text is read under.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.now
    }

    /// The search path among them. Equal as long as nothing changed it.
    #[must_use]
    pub const fn path(&self) -> &Arc<SearchPath> {
        &self.shared
    }

    /// As whom commands run, where that is not who the session began as; [`UNKNOWN_VALUE`] if only the server knows.
    #[must_use]
    pub fn role(&self) -> Option<&str> {
        self.role.now.as_deref()
    }

    /// Whether only the server knows what the settings are: code has run.
    #[must_use]
    pub const fn in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// Whether path and role stay as they are when the transaction under way ends, however it does.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.path.changed.is_none() && self.role.changed.is_none() && !self.told_for_now
    }

    /// What a text can be trusted to mean while the settings are in doubt and the server can't be asked: no name is the
    /// catalog's, and a backslash may be anything.
    #[must_use]
    pub const fn doubtful(&self) -> Settings {
        Settings {
            search_path: SearchPath::unknown(),
            path_is_settled: true,
            standard_conforming_strings: false,
            client_encoding: ClientEncoding::Ambiguous,
            server_major: self.now.server_major,
        }
    }

    /// Code has run, or may have, as far as to a COMMIT of its own.
    pub const fn code_ran(&mut self) {
        self.in_doubt = true;
    }

    /// The server's answer to [`QUESTION`]; `None` for what it did not say.
    pub fn told(&mut self, path: Option<&str>, role: Option<&str>) {
        self.in_doubt = false;
        self.told_for_now = self.open;
        let path = path.and_then(SearchPath::parse).unwrap_or_else(SearchPath::unknown);
        if path != self.path.now {
            self.path.change(path, false);
        }
        let role = match role {
            Some("none") => None,
            role => Some(role.unwrap_or(UNKNOWN_VALUE).to_owned()),
        };
        if role != self.role.now {
            self.role.change(role, false);
        }
        if !self.open {
            // No transaction is under way that could take it back.
            self.path.changed = None;
            self.role.changed = None;
        }
        self.share();
    }

    /// What the session has now is what RESET goes back to.
    pub fn starts_here(&mut self) {
        self.path = Tracked::new(self.path.now.clone());
        self.reported = false;
    }

    /// The session began in another role than that of its login: RESET goes back to it.
    pub fn starts_as(&mut self, role: &str) {
        self.role = Tracked::new((role != "none").then(|| role.to_owned()));
    }

    /// The server reports a setting (ParameterStatus, or what it answered at start).
    pub fn reports(&mut self, name: &str, value: &str) {
        match name {
            "standard_conforming_strings" => self.now.standard_conforming_strings = value == "on",
            "client_encoding" => self.now.client_encoding = ClientEncoding::from_name(value),
            "search_path" => {
                self.reported = true;
                self.path.now = SearchPath::parse(value).unwrap_or_else(SearchPath::unknown);
                self.share();
            }
            "server_version" => {
                let digits = value.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
                self.now.server_major = digits.parse().ok();
            }
            _ => {}
        }
    }

    /// The server has completed a statement.
    pub fn completed(&mut self, facts: &Facts) {
        for change in &facts.settings {
            self.change(&facts.verb, change);
        }
        // A setting is another now, and which one only the server knows.
        let any = facts.settings.iter().any(|change| change.name == "*" && change.value.is_some());
        if any || matches!(facts.class, Class::Execute | Class::Unknown) {
            self.code_ran();
        }
        match facts.transaction {
            Some(TransactionControl::Commit) if !self.failed => self.ended(),
            // A COMMIT of what has failed undoes it.
            Some(TransactionControl::Commit | TransactionControl::Rollback) => self.undone(),
            Some(TransactionControl::Savepoint) if facts.verb == "ROLLBACK" => {
                self.failed = false;
                self.undone_in_part();
            }
            Some(TransactionControl::Begin | TransactionControl::Savepoint) | None => {}
        }
    }

    /// The server has reported an error of a command: everything since the last savepoint, or all of the
    /// transaction, will be undone.
    pub const fn failed(&mut self) {
        self.failed = true;
    }

    /// The server is ready for more.
    pub fn ready(&mut self, transaction: TransactionStatus) {
        let reported = std::mem::take(&mut self.reported);
        self.open = transaction != TransactionStatus::Idle;
        match transaction {
            TransactionStatus::Idle => {
                self.in_doubt |= std::mem::take(&mut self.told_for_now);
                if reported {
                    // What the server says counts, whatever was concluded.
                    self.path.changed = None;
                }
                if self.failed {
                    self.undone();
                } else {
                    self.ended();
                }
            }
            TransactionStatus::Open => self.failed = false,
            TransactionStatus::Failed => self.failed = true,
        }
    }

    fn change(&mut self, verb: &str, change: &SettingChange) {
        let surely = matches!(verb, "SET" | "RESET" | "DISCARD ALL");
        let all = change.name == "*";
        if all || change.name == "search_path" {
            let mut new = match change.value.as_deref() {
                None => self.path.start.clone(),
                // The name of what was set is not known, so it may be this.
                Some(_) if all => SearchPath::unknown(),
                Some(text) => SearchPath::parse(text).unwrap_or_else(SearchPath::unknown),
            };
            if !surely {
                // A set_config in a query may not have run, or not for the last row.
                new = SearchPath::either(&[self.path.now.clone(), new]);
            }
            self.path.change(new, change.local);
            self.share();
        }
        // RESET ALL leaves the role as it is.
        let role = matches!(change.name.as_str(), "role" | "session_authorization")
            || (all && (change.value.is_some() || verb == "DISCARD ALL"));
        if role {
            let new = match change.value.as_deref() {
                None => self.role.start.clone(),
                Some("none") if change.name == "role" => None,
                Some(name) if surely && !all => Some(name.to_owned()),
                Some(_) => Some(UNKNOWN_VALUE.to_owned()),
            };
            self.role.change(new, change.local);
        }
    }

    fn ended(&mut self) {
        self.failed = false;
        self.path.ended();
        self.role.ended();
        self.share();
    }

    fn undone(&mut self) {
        self.failed = false;
        self.path.undone();
        self.role.undone();
        self.share();
    }

    fn undone_in_part(&mut self) {
        self.path.undone_in_part(|seen| {
            if seen.len() > MAX_SEEN { SearchPath::unknown() } else { SearchPath::either(seen) }
        });
        self.role.undone_in_part(|seen| match seen {
            [only] => only.clone(),
            _ => Some(UNKNOWN_VALUE.to_owned()),
        });
        self.share();
    }

    /// Puts the path where others read it.
    fn share(&mut self) {
        if self.now.search_path != self.path.now {
            self.shared = Arc::new(self.path.now.clone());
            self.now.search_path = self.path.now.clone();
        }
        self.now.path_is_settled = self.path.changed.is_none() && !self.told_for_now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::{NOTHING_PREPARED, Parsed, classify};

    /// Completes statements; `!` before one says that it failed, and each text ends with the status given.
    fn after(script: &[(&str, TransactionStatus)]) -> Following {
        let mut following = Following::new(Settings::default());
        for (text, status) in script {
            let (text, fails) = text.strip_prefix('!').map_or((*text, false), |text| (text, true));
            let Parsed::Statements(statements) =
                classify(text.as_bytes(), following.settings(), NOTHING_PREPARED)
            else {
                panic!("{text} is no statement");
            };
            let succeeding = statements.len() - usize::from(fails);
            for statement in statements.iter().take(succeeding) {
                following.completed(&statement.facts);
            }
            if fails {
                following.failed();
            }
            following.ready(*status);
        }
        following
    }

    const EVIL: &str = "SET search_path = evil, pg_catalog";
    const GOOD: &str = "SET search_path = public";
    use TransactionStatus::{Failed, Idle, Open};

    fn trusts(script: &[(&str, TransactionStatus)]) -> bool {
        after(script).settings().search_path.catalog_first()
    }

    #[test]
    fn the_path_is_followed() {
        assert!(trusts(&[("SELECT 1", Idle)]));
        assert!(!trusts(&[(EVIL, Idle)]));
        assert!(trusts(&[(EVIL, Idle), (GOOD, Idle)]));
        assert!(trusts(&[(EVIL, Idle), ("RESET search_path", Idle)]));
        assert!(trusts(&[(EVIL, Idle), ("DISCARD ALL", Idle)]));
        assert_eq!(*after(&[(EVIL, Idle), ("RESET ALL", Idle)]).path().schemas(), ["$user", "public"]);
    }

    #[test]
    fn a_query_may_not_have_run_its_set_config() {
        let good = "SELECT set_config('search_path', 'public', false) FROM t";
        assert!(!trusts(&[(EVIL, Idle), (good, Idle)]));
        assert!(!trusts(&[("SELECT set_config('search_path', x, false) FROM t", Idle)]));
        assert!(!trusts(&[("SELECT set_config(x, 'evil', false) FROM t", Idle)]));
    }

    #[test]
    fn a_local_path_ends_with_its_transaction() {
        let local = "SET LOCAL search_path = public";
        assert!(trusts(&[(EVIL, Idle), ("BEGIN", Open), (local, Open)]));
        assert!(!trusts(&[(EVIL, Idle), ("BEGIN", Open), (local, Open), ("COMMIT", Idle)]));
        assert!(!trusts(&[(EVIL, Idle), (local, Idle)]));
        assert!(!trusts(&[(EVIL, Idle), ("BEGIN; SET LOCAL search_path = public; COMMIT", Idle)]));
        // What is set for good after it counts for good.
        assert!(trusts(&[(EVIL, Idle), ("BEGIN", Open), (local, Open), (GOOD, Open), ("COMMIT", Idle)]));
        assert!(!trusts(&[("BEGIN", Open), (EVIL, Open), (local, Open), ("COMMIT", Idle)]));
    }

    #[test]
    fn what_is_undone_counts_no_more() {
        assert!(!trusts(&[(EVIL, Idle), ("BEGIN", Open), (GOOD, Open), ("ROLLBACK", Idle)]));
        assert!(!trusts(&[(EVIL, Idle), ("BEGIN; SET search_path = public", Open), ("ROLLBACK", Idle)]));
        // One text is one transaction.
        assert!(!trusts(&[(EVIL, Idle), ("!SET search_path = public; SELECT 1/0", Idle)]));
        let fails = ("!SELECT 1/0", Failed);
        assert!(!trusts(&[(EVIL, Idle), ("BEGIN", Open), (GOOD, Open), fails, ("ROLLBACK", Idle)]));
        assert!(!trusts(&[(EVIL, Idle), ("BEGIN", Open), (GOOD, Open), fails, ("COMMIT", Idle)]));
        assert!(!trusts(&[(EVIL, Idle), ("BEGIN", Open), (GOOD, Open), ("!COMMIT", Idle)]));
        assert!(trusts(&[("BEGIN", Open), (EVIL, Open), ("ROLLBACK", Idle)]));
    }

    #[test]
    fn behind_a_savepoint_every_path_has_to_be_trusted() {
        let to = ("ROLLBACK TO s", Open);
        assert!(!trusts(&[(EVIL, Idle), ("BEGIN; SAVEPOINT s", Open), (GOOD, Open), to, ("COMMIT", Idle)]));
        assert!(!trusts(&[("BEGIN", Open), (EVIL, Open), ("SAVEPOINT s", Open), (GOOD, Open), to]));
        let fails = ("!SELECT 1/0", Failed);
        let evil = ("BEGIN; SET search_path = evil, pg_catalog; SAVEPOINT s", Open);
        assert!(!trusts(&[evil, fails, to, ("COMMIT", Idle)]));
        let both = after(&[("BEGIN; SAVEPOINT s", Open), ("SET search_path = a", Open), to]);
        assert!(both.settings().search_path.catalog_first());
        assert_eq!(both.path().schemas(), ["$user", "public", "a"]);
    }

    #[test]
    fn the_role_is_followed() {
        let role = |script: &[(&str, TransactionStatus)]| after(script).role().map(str::to_owned);
        let a = Some("a".to_owned());
        assert_eq!(role(&[("SET ROLE a", Idle)]), a);
        assert_eq!(role(&[("SET ROLE a", Idle), ("RESET ALL", Idle)]), a);
        assert_eq!(role(&[("SET ROLE a", Idle), ("RESET ROLE", Idle)]), None);
        assert_eq!(role(&[("SET ROLE a", Idle), ("SET ROLE NONE", Idle)]), None);
        assert_eq!(role(&[("SET ROLE a", Idle), ("DISCARD ALL", Idle)]), None);
        assert_eq!(role(&[("BEGIN", Open), ("SET LOCAL ROLE a", Open), ("COMMIT", Idle)]), None);
        assert_eq!(role(&[("BEGIN", Open), ("SET ROLE a", Open), ("ROLLBACK", Idle)]), None);
        assert_eq!(role(&[("SELECT set_config('role', 'a', false)", Idle)]).as_deref(), Some(UNKNOWN_VALUE));
        let part = [("BEGIN; SAVEPOINT s", Open), ("SET ROLE a", Open), ("ROLLBACK TO s", Open)];
        assert_eq!(role(&part).as_deref(), Some(UNKNOWN_VALUE));
    }

    #[test]
    fn what_code_has_set_only_the_server_knows() {
        let mut following = after(&[("SELECT 1", Idle)]);
        assert!(!following.in_doubt());
        for code in ["DO $$ BEGIN END $$", "SELECT somebodys()", "CALL it()"] {
            assert!(after(&[(code, Idle)]).in_doubt(), "{code}");
        }
        // An explicit SET says something of the path, and nothing of the role.
        following = after(&[("SELECT somebodys()", Idle), (GOOD, Idle)]);
        assert!(following.in_doubt() && !following.doubtful().search_path.catalog_first());
        following.told(Some("evil, pg_catalog"), Some("a"));
        assert!(!following.in_doubt() && !following.settings().search_path.catalog_first());
        assert_eq!(following.role(), Some("a"));
        following.told(None, None);
        assert_eq!((following.path().schemas().len(), following.role()), (0, Some(UNKNOWN_VALUE)));
        following.told(Some("public"), Some("none"));
        assert_eq!((following.path().schemas(), following.role()), (&["public".to_owned()][..], None));
        // What code has set in a transaction is undone with it.
        following = after(&[(GOOD, Idle), ("BEGIN; SELECT somebodys()", Open)]);
        following.told(Some("evil, pg_catalog"), Some("none"));
        following.completed(&Facts {
            transaction: Some(TransactionControl::Rollback),
            ..Facts::plain("ROLLBACK", Class::Session)
        });
        following.ready(Idle);
        assert!(following.settings().search_path.catalog_first());
    }

    #[test]
    fn what_the_server_has_said_stays_when_a_later_command_fails() {
        let mut following = after(&[("SELECT somebodys()", Idle)]);
        following.told(Some("evil, pg_catalog"), Some("a"));
        assert!(following.is_settled());
        following.failed();
        following.ready(Idle);
        assert!(!following.settings().search_path.catalog_first());
        assert_eq!(following.role(), Some("a"));
    }

    #[test]
    fn a_change_of_a_setting_that_only_the_server_knows_is_in_doubt() {
        for any in [
            "UPDATE pg_settings SET setting = 'evil' WHERE name = 'search_path'",
            "WITH x AS (SELECT 1) UPDATE pg_catalog.pg_settings AS s SET setting = 'a'",
            "EXPLAIN ANALYZE UPDATE pg_settings SET setting = 'a' WHERE name = 'role'",
            "PREPARE p AS UPDATE pg_settings SET setting = 'a'; EXECUTE p",
            "SELECT set_config(name, 'evil', false) FROM t",
        ] {
            let mut following = after(&[(any, Idle)]);
            assert!(following.in_doubt() && !following.settings().search_path.catalog_first(), "{any}");
            assert_eq!(following.role(), Some(UNKNOWN_VALUE), "{any}");
            following.told(Some("public"), Some("none"));
            assert!(!following.in_doubt() && following.settings().search_path.catalog_first(), "{any}");
        }
        for none in [
            "UPDATE public.pg_settings SET setting = 'a'",
            "EXPLAIN UPDATE pg_settings SET setting = 'a'",
            "SELECT * FROM pg_settings",
            "SET application_name = 'x'",
            "RESET ALL",
        ] {
            assert!(!after(&[(none, Idle)]).in_doubt(), "{none}");
        }
    }

    #[test]
    fn the_role_of_the_start_is_what_reset_goes_back_to() {
        let mut following = Following::new(Settings::default());
        following.starts_as("a");
        assert_eq!(following.role(), Some("a"));
        let mut set = |value: Option<&str>, verb: &str| {
            let value = value.map(str::to_owned);
            let change = SettingChange { name: "role".to_owned(), value, local: false };
            following.completed(&Facts { settings: vec![change], ..Facts::plain(verb, Class::Administer) });
            following.role().map(str::to_owned)
        };
        assert_eq!(set(Some("none"), "SET"), None);
        assert_eq!(set(None, "RESET").as_deref(), Some("a"));
    }

    #[test]
    fn what_the_server_reports_is_so() {
        let mut following = after(&[("BEGIN", Open), (EVIL, Open)]);
        following.reports("search_path", "public");
        following.ready(Idle);
        assert_eq!(following.path().schemas(), ["public"]);
        following.reports("search_path", "a b");
        assert!(!following.settings().search_path.catalog_first());
    }
}
