//! From a file to settings, or a sentence about what is wrong with it.

use std::path::{Path, PathBuf};

use super::Settings;

/// Why settings can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file can't be read.
    #[error("can't read the settings file {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML, or has a key or value that is not known.
    #[error("{}{place}: {problem}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// `:line:column`, or nothing.
        place: String,
        /// What is wrong there.
        problem: String,
    },
    /// A value that can't be used.
    #[error("setting `{key}`: {problem}")]
    Value {
        /// Which setting.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl SettingsError {
    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Read { .. } => "check the path given with --config",
            Self::Syntax { .. } | Self::Value { .. } => {
                "docs/settings.schema.json lists every key; editors with TOML support can check the file against it"
            }
        }
    }

    pub(super) fn value(key: &str, problem: impl Into<String>) -> Self {
        Self::Value { key: key.to_owned(), problem: problem.into() }
    }
}

impl Settings {
    /// Reads a settings file and checks it. Relative paths in it are relative to its directory.
    ///
    /// # Errors
    /// [`SettingsError`] names the file, the place and the key.
    pub fn from_file(path: &Path) -> Result<Self, SettingsError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SettingsError::Read { path: path.to_owned(), source })?;
        let mut settings = Self::from_toml(&text, path)?;
        settings.resolve_paths(path.parent().unwrap_or(Path::new("")));
        Ok(settings)
    }

    /// Reads settings from TOML and checks them; `path` is for messages.
    ///
    /// # Errors
    /// [`SettingsError`] names the place and the key.
    pub fn from_toml(text: &str, path: &Path) -> Result<Self, SettingsError> {
        let settings: Self = toml::from_str(text).map_err(|error| SettingsError::Syntax {
            path: path.to_owned(),
            place: error.span().map(|span| place(text, span.start)).unwrap_or_default(),
            problem: error.message().replace('\n', "; "),
        })?;
        settings.check()?;
        Ok(settings)
    }

    fn resolve_paths(&mut self, base: &Path) {
        let files = [
            &mut self.data.dir,
            &mut self.postgres.cert,
            &mut self.postgres.key,
            &mut self.web.cert,
            &mut self.web.key,
            &mut self.witness.policy,
            &mut self.witness.ca,
            &mut self.trail_log.ca,
            &mut self.trail_log.nodes,
        ];
        for file in files.into_iter().flatten() {
            *file = base.join(&*file);
        }
    }
}

/// `:line:column` of a byte offset, both from 1.
fn place(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!(":{line}:{column}")
}
