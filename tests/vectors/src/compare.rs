//! What a policy says beside what a case expects.

use std::fmt::Debug;

pub(crate) fn compare<T: PartialEq + Debug>(
    found: &mut Vec<String>,
    what: &str,
    expected: Option<T>,
    actual: T,
) {
    if let Some(expected) = expected.filter(|expected| *expected != actual) {
        found.push(format!("{what} is {actual:?}, not {expected:?}"));
    }
}
