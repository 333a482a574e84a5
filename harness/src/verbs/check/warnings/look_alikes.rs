//! Internationalised names that a reader takes for another name, by the skeletons of UTS #39.

use std::collections::HashMap;

use meridian_policy::{ConfigError, HostPattern, Vantage};
use unicode_security::confusable_detection::skeleton;

use super::warning;
use crate::policy::PolicyFile;

/// How a label in A-label form begins.
const A_LABEL: &str = "xn--";

/// A name in a rule, without the `*.` of a wildcard.
struct Listed {
    name: String,
    path: String,
}

/// The names with an A-label that look like another name of the policy, or like one in ASCII.
pub(super) fn of(file: &PolicyFile) -> Vec<ConfigError> {
    let mut rules = Vantage::ALL.iter().flat_map(|at| file.written().rules(*at));
    let is_international = |text: &str| text.to_ascii_lowercase().contains(A_LABEL);
    if !rules.any(|rule| rule.hosts().texts().any(is_international)) {
        return Vec::new();
    }
    let mut international = Vec::new();
    each_name(file, |name, path| {
        if name.contains(A_LABEL) {
            let (name, path) = (name.to_owned(), path());
            international.push(Listed { name, path });
        }
    });
    let mut by_skeleton: HashMap<String, Vec<Listed>> = international
        .iter()
        .map(|listed| (skeleton_of(&listed.name), Vec::new()))
        .collect();
    let ascii = AsciiSkeleton::new();
    each_name(file, |name, path| {
        let skeleton = if name.contains(A_LABEL) {
            skeleton_of(name)
        } else {
            ascii.of(name)
        };
        if let Some(alike) = by_skeleton.get_mut(&skeleton)
            && alike.iter().all(|other| other.name != name)
        {
            let (name, path) = (name.to_owned(), path());
            alike.push(Listed { name, path });
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

/// Calls `each` with every name in the hosts of a rule, without the `*.` of a wildcard, and its path.
fn each_name(file: &PolicyFile, mut each: impl FnMut(&str, &dyn Fn() -> String)) {
    for vantage in Vantage::ALL {
        for (rule, written) in file.written().rules(*vantage).enumerate() {
            for host in written.hosts().parsed() {
                if let HostPattern::Exact(name) | HostPattern::Suffix(name) = &host.pattern.host {
                    let path = || format!("hosts.{vantage}.rules[{rule}].hosts[{}]", host.index);
                    each(name.as_str(), &path);
                }
            }
        }
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
