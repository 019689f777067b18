//! Policies that come with the gateway.

/// In force until another policy is applied: everything flows, everything is recorded.
pub const OBSERVE: &str = "observe";

/// Reads flow, and so do writes that can be undone; all else needs a review.
pub const CAREFUL: &str = "careful";

/// Nobody enters and nothing runs.
pub const LOCKED: &str = "locked";

const SHIPPED: [(&str, &str); 3] = [
    (OBSERVE, include_str!("../policies/observe.cedar")),
    (CAREFUL, include_str!("../policies/careful.cedar")),
    (LOCKED, include_str!("../policies/locked.cedar")),
];

/// The text of a shipped policy.
#[must_use]
pub fn source(name: &str) -> Option<&'static str> {
    SHIPPED.iter().find(|(known, _)| *known == name).map(|(_, source)| *source)
}

/// Names of the shipped policies, mildest first.
#[must_use]
pub fn names() -> Vec<&'static str> {
    SHIPPED.iter().map(|(name, _)| *name).collect()
}

/// The name of a text that comes with the gateway.
#[must_use]
pub fn name_of(source: &str) -> Option<&'static str> {
    SHIPPED.iter().find(|(_, known)| *known == source).map(|(name, _)| *name)
}
