//! Numbers with what they count, as people write them.

/// `1 entry`, `12 entries`, `0 rules`: `noun` is the singular of a regular English noun.
pub fn counted(count: u64, noun: &str) -> String {
    match (count, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (count, Some(stem)) => format!("{count} {stem}ies"),
        (count, None) => format!("{count} {noun}s"),
    }
}

/// `12,345`
pub fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `12.3 kB`: thousands of bytes, cut to one place.
pub fn kilobytes(bytes: u64) -> String {
    format!("{}.{} kB", bytes / 1000, bytes % 1000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        let texts = [
            (0, "rule"),
            (1, "rule"),
            (2, "rule"),
            (1, "entry"),
            (2, "entry"),
        ];
        assert_eq!(
            texts.map(|(count, noun)| counted(count, noun)),
            ["0 rules", "1 rule", "2 rules", "1 entry", "2 entries"]
        );
    }

    #[test]
    fn digits_stand_in_groups_of_three() {
        assert_eq!(
            [0, 999, 1000, 12_345, 1_234_567].map(thousands),
            ["0", "999", "1,000", "12,345", "1,234,567"]
        );
    }

    #[test]
    fn kilobytes_are_cut_and_not_rounded() {
        assert_eq!(
            [0, 99, 100, 1999, 152_345].map(kilobytes),
            ["0.0 kB", "0.0 kB", "0.1 kB", "1.9 kB", "152.3 kB"]
        );
    }
}
