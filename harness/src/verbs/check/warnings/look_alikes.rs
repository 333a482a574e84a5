//! Internationalised names that a reader takes for another name, by the skeletons of UTS #39.

use std::collections::HashMap;

use meridian_policy::{ConfigError, HostPattern, Vantage};

use super::warning;
use crate::policy::PolicyFile;
use crate::text::confusables::{AsciiSkeleton, skeleton_of};

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
