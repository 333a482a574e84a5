//! Internationalised names that a reader takes for another name, by the skeletons of UTS #39.

use std::collections::HashMap;

use meridian_policy::{ConfigError, HostPattern, Pattern, Vantage};
use serde_json::Value;
use unicode_security::confusable_detection::skeleton;

use super::warning;
use crate::policy::PolicyFile;

/// A name in a rule, without the `*.` of a wildcard.
struct Listed {
    name: String,
    path: String,
}

/// The names with an A-label that look like another name of the policy, or like one in ASCII.
pub(super) fn of(file: &PolicyFile) -> Vec<ConfigError> {
    let mut international = Vec::new();
    each_host(file, |text, path| {
        if text.to_ascii_lowercase().contains("xn--") {
            let name = name(text).filter(|name| name.contains("xn--"));
            international.extend(name.map(|name| Listed { name, path: path() }));
        }
    });
    if international.is_empty() {
        return Vec::new();
    }
    let mut by_skeleton: HashMap<String, Vec<Listed>> = international
        .iter()
        .map(|listed| (skeleton_of(&listed.name), Vec::new()))
        .collect();
    let ascii = AsciiSkeleton::new();
    each_host(file, |text, path| {
        let Some(name) = name(text) else { return };
        let skeleton = if name.contains("xn--") {
            skeleton_of(&name)
        } else {
            ascii.of(&name)
        };
        if let Some(alike) = by_skeleton.get_mut(&skeleton)
            && alike.iter().all(|other| other.name != name)
        {
            alike.push(Listed { name, path: path() });
        }
    });
    let warnings = international.iter().filter_map(|listed| {
        let skeleton = skeleton_of(&listed.name);
        let (unicode, _) = idna::domain_to_unicode(&listed.name);
        let alike = by_skeleton.get(&skeleton)?;
        let other = alike.iter().find(|other| other.name != listed.name);
        let message = match other {
            Some(other) => format!(
                "{:?} reads {unicode:?} and looks like {:?} at {}",
                listed.name, other.name, other.path
            ),
            None if skeleton.is_ascii() => format!(
                "{:?} reads {unicode:?} and looks like a name in ASCII letters",
                listed.name
            ),
            None => return None,
        };
        Some(warning(
            &*listed.path,
            message,
            "make sure that the name is the one you mean, and remove it if not",
        ))
    });
    warnings.collect()
}

/// Calls `each` with every host of every rule and its path.
fn each_host(file: &PolicyFile, mut each: impl FnMut(&str, &dyn Fn() -> String)) {
    for vantage in Vantage::ALL {
        let rules = file.json["hosts"][vantage.as_str()]["rules"].as_array();
        for (rule, written) in rules.into_iter().flatten().enumerate() {
            let hosts = written["hosts"].as_array();
            for (host, text) in hosts.into_iter().flatten().map(Value::as_str).enumerate() {
                let path = || format!("hosts.{vantage}.rules[{rule}].hosts[{host}]");
                each(text.unwrap_or_default(), &path);
            }
        }
    }
}

fn name(text: &str) -> Option<String> {
    match Pattern::parse(text).ok()?.host {
        HostPattern::Exact(name) | HostPattern::Suffix(name) => Some(name.as_str().to_owned()),
        HostPattern::Any | HostPattern::Network(_) => None,
    }
}

/// What a name looks like: two names that look alike have one skeleton.
pub(crate) fn skeleton_of(name: &str) -> String {
    let (unicode, _) = idna::domain_to_unicode(name);
    skeleton(&unicode).collect()
}

/// Skeletons of names in ASCII by table, because a policy may have a million of them.
struct AsciiSkeleton(Vec<String>);

impl AsciiSkeleton {
    fn new() -> Self {
        let chars = (0..=0x7fu8).map(|byte| skeleton(&char::from(byte).to_string()).collect());
        Self(chars.collect())
    }

    fn of(&self, name: &str) -> String {
        let parts = name
            .bytes()
            .filter_map(|byte| self.0.get(usize::from(byte)));
        parts.map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skeletons_are_what_a_reader_sees() {
        let ascii = AsciiSkeleton::new();
        for (unicode, looks_like) in [
            ("\u{455}hop.example.com", "shop.example.com"),
            ("g\u{3bf}\u{3bf}gle.com", "google.com"),
            ("\u{430}\u{440}\u{440}\u{4cf}\u{435}.com", "apple.com"),
        ] {
            let name = idna::domain_to_ascii(unicode).unwrap();
            assert_eq!(skeleton_of(&name), ascii.of(looks_like), "{unicode}");
        }
        let name = idna::domain_to_ascii("b\u{fc}cher.example").unwrap();
        assert!(!skeleton_of(&name).is_ascii());
        assert_eq!(
            ascii.of("modern-1.example"),
            skeleton_of("modern-1.example")
        );
    }
}
