//! Retention classes, as a settings file declares them.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trail::retention::{DEFAULT_CLASS, check_class};
use trail::{CaptureField, Covers, Keep};

use super::SettingsError;
use crate::cli::duration_s;

/// The class of what is captured, where `output` is set.
const OUTPUT_CLASS: &str = "output";

/// How long what is kept: `forever`, or `90d`, `12h`, `30m`, `45s`, `2w` after it was recorded. What is over is erased: its
/// key is destroyed, its entry stays and verifies.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Everything that nothing else is said of: texts, parameters, messages, names.
    pub default: String,
    /// What commands read and wrote. Default: as `default`.
    pub output: Option<String>,
    /// How often to look for what is over.
    pub check_every: String,
    /// Exceptions; the first that fits a session and a field decides.
    #[schemars(length(max = 256))]
    pub rules: Vec<RetentionRule>,
}

/// An exception. What is not given fits everything.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetentionRule {
    /// Names the class: 1 to 32 of a-z, 0-9, `-` and `_`. Rules may share one.
    pub class: String,
    /// How long it is kept.
    pub keep: String,
    /// Only sessions with this target.
    #[serde(default)]
    pub target: Option<String>,
    /// Only sessions of this principal, or for this person.
    #[serde(default)]
    pub principal: Option<String>,
    /// Only these of what is captured. Default: all that is recorded of the session.
    #[serde(default)]
    pub fields: Vec<CapturedField>,
}

/// Something captured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CapturedField {
    /// What the client sent to a program.
    Stdin,
    /// What a program wrote.
    Stdout,
    /// What a program wrote beside that.
    Stderr,
    /// Rows of results.
    Rows,
    /// Terminals.
    Recording,
    /// Files on their way to the target.
    Upload,
    /// Files on their way from the target.
    Download,
}

impl From<CapturedField> for CaptureField {
    fn from(field: CapturedField) -> Self {
        match field {
            CapturedField::Stdin => Self::Stdin,
            CapturedField::Stdout => Self::Stdout,
            CapturedField::Stderr => Self::Stderr,
            CapturedField::Rows => Self::Rows,
            CapturedField::Recording => Self::Recording,
            CapturedField::Upload => Self::Upload,
            CapturedField::Download => Self::Download,
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self { default: "forever".to_owned(), output: None, check_every: "1h".to_owned(), rules: Vec::new() }
    }
}

impl Retention {
    /// As the trail takes it.
    ///
    /// # Errors
    /// [`SettingsError::Value`] names what makes no sense.
    pub fn to_trail(&self) -> Result<trail::Retention, SettingsError> {
        let mut periods = BTreeMap::new();
        periods.insert(DEFAULT_CLASS.to_owned(), keep("retention.default", &self.default)?);
        let mut rules = Vec::new();
        for (number, rule) in self.rules.iter().enumerate() {
            let place = |name: &str| format!("retention.rules[{number}].{name}");
            check_class(&rule.class)
                .map_err(|error| SettingsError::value(&place("class"), error.to_string()))?;
            let period = keep(&place("keep"), &rule.keep)?;
            let is_taken = rule.class == OUTPUT_CLASS && self.output.is_some();
            if periods.insert(rule.class.clone(), period).is_some_and(|known| known != period) || is_taken {
                let problem = format!("the class `{}` is kept for another time elsewhere", rule.class);
                return Err(SettingsError::value(&place("class"), problem));
            }
            let covers = if rule.fields.is_empty() {
                Covers::All
            } else {
                Covers::Fields(rule.fields.iter().copied().map(CaptureField::from).collect())
            };
            let (target, principal, class) =
                (rule.target.clone(), rule.principal.clone(), rule.class.clone());
            rules.push(trail::RetentionRule { target, principal, covers, class });
        }
        if let Some(output) = &self.output {
            periods.insert(OUTPUT_CLASS.to_owned(), keep("retention.output", output)?);
            let (target, principal, class) = (None, None, OUTPUT_CLASS.to_owned());
            rules.push(trail::RetentionRule { target, principal, covers: Covers::Captured, class });
        }
        // A trail where nothing is ever over has nothing to look for.
        periods.retain(|_, keep| *keep != Keep::Forever);
        Ok(trail::Retention { rules, periods })
    }

    /// How often to look for what is over.
    ///
    /// # Errors
    /// [`SettingsError::Value`]
    pub fn interval(&self) -> Result<Duration, SettingsError> {
        let name = "retention.check_every";
        let seconds = duration_s(&self.check_every).map_err(|problem| SettingsError::value(name, problem))?;
        if seconds == 0 {
            return Err(SettingsError::value(name, "it has to be a second at least".to_owned()));
        }
        Ok(Duration::from_secs(seconds))
    }
}

fn keep(name: &str, text: &str) -> Result<Keep, SettingsError> {
    if text == "forever" {
        return Ok(Keep::Forever);
    }
    let seconds =
        duration_s(text).map_err(|problem| SettingsError::value(name, format!("{problem}, or forever")))?;
    Ok(Keep::ForMicros(seconds.saturating_mul(1_000_000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<trail::Retention, String> {
        let retention: Retention = toml::from_str(text).map_err(|error| error.to_string())?;
        retention.to_trail().map_err(|error| format!("{error}: {:?}", std::error::Error::source(&error)))
    }

    #[test]
    fn classes_come_from_rules_then_output_then_default() {
        let text = "default = \"365d\"\noutput = \"90d\"\n[[rules]]\nclass = \"brief\"\nkeep = \"7d\"\ntarget = \"scratch\"\n\
                    [[rules]]\nclass = \"rows\"\nkeep = \"forever\"\nfields = [\"rows\"]\n";
        let retention = read(text).unwrap();
        let classes: Vec<&str> = retention.rules.iter().map(|rule| rule.class.as_str()).collect();
        assert_eq!(classes, ["brief", "rows", "output"]);
        let days = |days: u64| Some(Keep::ForMicros(days * 86_400_000_000));
        assert_eq!(retention.periods.get("default").copied(), days(365));
        assert_eq!(retention.periods.get("output").copied(), days(90));
        assert_eq!(retention.periods.get("brief").copied(), days(7));
        assert_eq!(retention.periods.get("rows"), None, "forever");
        assert!(read("").unwrap().periods.is_empty());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            "default = \"long\"",
            "[[rules]]\nclass = \"A\"\nkeep = \"1d\"",
            "[[rules]]\nclass = \"a\"\nkeep = \"1d\"\n[[rules]]\nclass = \"a\"\nkeep = \"2d\"",
            "output = \"1d\"\n[[rules]]\nclass = \"output\"\nkeep = \"1d\"",
            "[[rules]]\nclass = \"a\"\nkeep = \"1d\"\nfields = [\"text\"]",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
