//! What a command is: its class and the facts that policy and reader judge it by.

use serde::{Deserialize, Serialize};

/// How dangerous a kind of command is. Codes are part of the leaf format and never reused.
///
/// A command that does several things takes the class of the most dangerous; the order of the variants is
/// that order. What can't be understood is [`Class::Unknown`], never [`Class::Read`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Class {
    /// Changes only the session itself: BEGIN, SET, LISTEN.
    Session = 1,
    /// Reads and changes nothing.
    Read = 2,
    /// Moves files.
    Transfer = 3,
    /// Changes data.
    Write = 4,
    /// Changes what exists: tables, functions, indexes.
    Define = 5,
    /// Changes who may do what, or how the server works.
    Administer = 6,
    /// Runs code: a shell, a procedure, a program.
    Execute = 7,
    /// Not understood.
    Unknown = 8,
}

impl Class {
    /// Every class, mildest first.
    pub const ALL: [Self; 8] = [
        Self::Session,
        Self::Read,
        Self::Transfer,
        Self::Write,
        Self::Define,
        Self::Administer,
        Self::Execute,
        Self::Unknown,
    ];

    /// The code in a leaf.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The class that a leaf's code stands for.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.code() == code)
    }

    /// The public name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Read => "read",
            Self::Transfer => "transfer",
            Self::Write => "write",
            Self::Define => "define",
            Self::Administer => "administer",
            Self::Execute => "execute",
            Self::Unknown => "unknown",
        }
    }

    /// Whether a command of this class leaves the target as it was.
    #[must_use]
    pub const fn is_harmless(self) -> bool {
        matches!(self, Self::Session | Self::Read)
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Class {
    type Err = UnknownClass;
    fn from_str(text: &str) -> Result<Self, UnknownClass> {
        Self::ALL
            .into_iter()
            .find(|class| class.as_str() == text)
            .ok_or_else(|| UnknownClass(text.to_owned()))
    }
}

/// No command is of that class.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no class `{0}`; classes are session, read, transfer, write, define, administer, execute and unknown"
)]
pub struct UnknownClass(String);

/// What a command does to an object that it names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Usage {
    /// Looks at it.
    Read,
    /// Changes its content.
    Write,
    /// Creates, alters or drops it.
    Define,
}

/// An object that a command names, qualified as far as the text and the session's settings tell.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ObjectUse {
    /// For SQL `schema.name`; for a shell a path.
    pub name: String,
    /// What is done to it.
    pub usage: Usage,
}

/// What calling a function can do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Computes.
    Pure,
    /// Changes the session only.
    Session,
    /// Changes data, sequences or large objects.
    Write,
    /// Reads files of the server.
    File,
    /// Opens connections of its own.
    Network,
    /// Changes how the server works or ends other sessions.
    Administer,
    /// Runs text that it is given as code.
    Code,
    /// Not known to us.
    Unknown,
}

/// A function that a command calls; for a shell a program that it runs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct FunctionUse {
    /// Its name as the text gives it, lower-cased where the language does.
    pub name: String,
    /// What is known of it.
    pub effect: Effect,
}

/// A setting of the session that a command changes; for a shell a variable.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct SettingChange {
    /// Its name, for SQL lower-cased; `*` for all.
    pub name: String,
    /// The new value, or `None` for the default.
    pub value: Option<String>,
    /// Whether it ends with the transaction, for a shell with the one command it is set for.
    pub local: bool,
}

/// What a command does to the transaction it runs in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransactionControl {
    /// Opens one.
    Begin,
    /// Makes its effects last: COMMIT, END, PREPARE TRANSACTION.
    Commit,
    /// Undoes it.
    Rollback,
    /// SAVEPOINT, RELEASE, ROLLBACK TO: stays inside.
    Savepoint,
}

/// What is known of one command without running it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Facts {
    /// The command's own word: `SELECT`, `CREATE TABLE`; for a shell the program that does the worst of it, or `EXEC`.
    pub verb: String,
    /// Words of commands that it runs besides, at any depth, but for queries: `DELETE` of `WITH … DELETE … SELECT`, of
    /// `EXPLAIN ANALYZE DELETE`, and of an EXECUTE that deletes; for a shell the other programs. Sorted, each once.
    #[serde(default)]
    pub inner_verbs: Vec<String>,
    /// The most dangerous thing it does, at any depth.
    pub class: Class,
    /// Objects it names, sorted, each once per usage.
    pub objects: Vec<ObjectUse>,
    /// Functions it calls, sorted, each once.
    pub functions: Vec<FunctionUse>,
    /// For UPDATE, DELETE, MERGE and TRUNCATE: whether every part of it that changes or removes rows says which, by a
    /// condition that names a column. `None` where the question has no meaning.
    pub has_where: Option<bool>,
    /// For what hands out rows of a query: whether the text bounds how many, by a LIMIT or FETCH FIRST with a number on
    /// the outermost query. A parameter bounds nothing, for it may be NULL; nor does WITH TIES. `None` where the
    /// question has no meaning.
    #[serde(default)]
    pub has_limit: Option<bool>,
    /// What it does to the transaction.
    pub transaction: Option<TransactionControl>,
    /// Settings it changes.
    pub settings: Vec<SettingChange>,
    /// Whether its effects (or some of them) stand even if the transaction is undone: such a command's intent
    /// must be durable before it leaves, inside a transaction too.
    pub outlives_rollback: bool,
}

impl Facts {
    /// Facts of a command that nothing is known of.
    #[must_use]
    pub fn unknown(verb: &str) -> Self {
        Self {
            verb: verb.to_owned(),
            inner_verbs: Vec::new(),
            class: Class::Unknown,
            objects: Vec::new(),
            functions: Vec::new(),
            has_where: None,
            has_limit: None,
            transaction: None,
            settings: Vec::new(),
            outlives_rollback: true,
        }
    }

    /// Facts of a command that names nothing and does only what its class says.
    #[must_use]
    pub fn plain(verb: &str, class: Class) -> Self {
        Self { class, outlives_rollback: false, ..Self::unknown(verb) }
    }

    /// Whether it may end the transaction that it runs in: by its own word, or by code.
    #[must_use]
    pub const fn may_end_transaction(&self) -> bool {
        matches!(self.transaction, Some(TransactionControl::Commit | TransactionControl::Rollback))
            || matches!(self.class, Class::Execute | Class::Unknown)
    }

    /// Whether an explicit transaction is under way for certain once it has succeeded.
    #[must_use]
    pub fn leaves_transaction(&self, open: bool) -> bool {
        (open || self.transaction == Some(TransactionControl::Begin)) && !self.may_end_transaction()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_codes_agree() {
        for class in Class::ALL {
            assert_eq!(class.as_str().parse::<Class>().unwrap(), class);
            assert_eq!(Class::from_code(class.code()), Some(class));
            assert_eq!(serde_json::to_string(&class).unwrap(), format!("\"{class}\""));
        }
    }

    #[test]
    fn a_transaction_goes_on_until_something_may_end_it() {
        let with = |transaction| Facts { transaction, ..Facts::plain("X", Class::Session) };
        assert!(with(Some(TransactionControl::Begin)).leaves_transaction(false));
        assert!(with(Some(TransactionControl::Savepoint)).leaves_transaction(true));
        assert!(!with(Some(TransactionControl::Savepoint)).leaves_transaction(false));
        assert!(!with(Some(TransactionControl::Commit)).leaves_transaction(true));
        assert!(with(None).leaves_transaction(true) && !Facts::unknown("X").leaves_transaction(true));
    }

    #[test]
    fn unknown_outranks_everything() {
        assert!(Class::ALL.into_iter().all(|class| class <= Class::Unknown));
        assert!(!Class::Unknown.is_harmless());
    }
}
