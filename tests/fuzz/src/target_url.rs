//! Where a target is, as somebody typed it.

use std::collections::BTreeMap;

use postgres::upstream;
use store::TargetUrl;
use store::target_url::Material;

/// A target's URL: with its secrets written out it parses to the same, and what the control store takes, the data path
/// takes too.
pub fn target_url(data: &[u8]) {
    let Some(text) = crate::text(data) else { return };
    let Ok(url) = text.parse::<TargetUrl>() else { return };
    let exposed = url.expose().expect("what came as text goes as text");
    let again: TargetUrl = exposed.parse().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(again, url);
    assert_eq!(again.material(), url.material());
    let mut material = BTreeMap::new();
    for (name, value) in url.material() {
        let Material::Content(secret) = value else { return };
        material.insert(name.clone(), secret.clone());
    }
    let connects = upstream::TargetUrl::parse(&url.to_string(), &material);
    assert!(connects.is_ok(), "the store takes {url:?}, and the data path does not: {connects:?}");
}
