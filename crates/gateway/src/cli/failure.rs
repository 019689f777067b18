//! What the user sees when a command fails: one sentence, and on the next line what to do.

use api::problem::Problem;

/// A failed command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// One sentence about what failed.
    pub what: String,
    /// What to do about it; empty if it has been said already.
    pub advice: String,
}

impl Failure {
    /// A failure with its reason and what to do.
    pub fn new(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what: what.into(), advice: advice.into() }
    }

    /// A failure from a sentence that says what to do behind its first semicolon.
    pub fn from_sentence(sentence: &str) -> Self {
        let (what, advice) = sentence.split_once("; ").unwrap_or((sentence, ""));
        Self::new(what, advice)
    }

    /// A failure from an error and everything that led to it.
    pub fn from_error(error: &dyn std::error::Error) -> Self {
        let mut failure = Self::from_sentence(&error.to_string());
        let mut source = error.source();
        while let Some(error) = source {
            failure.what.push_str(&format!(": {error}"));
            source = error.source();
        }
        failure
    }

    /// A failed read or write of a file.
    pub fn file(doing: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::new(
            format!("can't {doing} {}: {error}", path.display()),
            "check that it exists and that you may use it",
        )
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)?;
        if !self.advice.is_empty() {
            write!(f, "\n{}", self.advice)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::new(problem.detail, problem.advice)
    }
}
