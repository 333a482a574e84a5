//! Names that a reader takes for one another, by the skeletons of UTS #39.

use unicode_security::confusable_detection::skeleton;

/// What a name looks like, with its A-labels read as Unicode: two names that look alike have one
/// skeleton.
pub fn skeleton_of(name: &str) -> String {
    let (unicode, _) = idna::domain_to_unicode(name);
    skeleton(&unicode).collect()
}

/// [`skeleton_of`] for names in ASCII without A-labels by table, because a policy may have a million
/// of them.
#[derive(Debug)]
pub struct AsciiSkeleton(Vec<String>);

impl AsciiSkeleton {
    /// Makes the table.
    pub fn new() -> Self {
        let chars = (0..=0x7fu8).map(|byte| skeleton(&char::from(byte).to_string()).collect());
        Self(chars.collect())
    }

    /// The skeleton of `name`; what is not ASCII in it is left out.
    pub fn of(&self, name: &str) -> String {
        let parts = name
            .bytes()
            .filter_map(|byte| self.0.get(usize::from(byte)));
        parts.map(String::as_str).collect()
    }
}

impl Default for AsciiSkeleton {
    fn default() -> Self {
        Self::new()
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
