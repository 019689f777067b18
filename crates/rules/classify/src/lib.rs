//! What a command is, told from its text alone.
//!
//! Input is the text as the client sent it and, for SQL, the settings of its session; output is
//! [`vocabulary::Facts`]: verb, class, objects, functions. What can't be understood is
//! [`vocabulary::Class::Unknown`], never a read. README.md has the tables.

pub mod postgres;
pub mod shell;
