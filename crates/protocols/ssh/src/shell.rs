//! Shell integration: a shell that tells which lines it runs, and what came of them.
//!
//! A target can ask for it (`shell_integration=on` in its URL). Its interactive shells are then begun by a line of the
//! gateway's ([`launch`]), which has the account's own shell read its start-up files as always, and a few functions
//! beside them. These write markers into the shell's output, which [`marker`] finds and takes out again. [`follow`] makes of
//! them, and of what is read off the screen, what the trail is told.

pub(crate) mod follow;
pub(crate) mod launch;
pub(crate) mod marker;
