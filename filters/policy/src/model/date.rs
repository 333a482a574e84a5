//! Calendar days, for rules that expire.

use std::fmt;

/// A day of the Gregorian calendar in UTC, counted from 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(i32);

/// Days before the first of each month in a year that begins in March, so that a leap day is last.
const DAYS_BEFORE: [i32; 12] = [0, 31, 61, 92, 122, 153, 184, 214, 245, 275, 306, 337];

impl Date {
    /// The day of a moment, in seconds since the Unix epoch.
    pub fn from_unix_seconds(seconds: u64) -> Self {
        Self(i32::try_from(seconds / 86_400).unwrap_or(i32::MAX))
    }

    /// Reads `YYYY-MM-DD`; `None` for anything else, and for a day that the calendar lacks.
    pub fn parse(text: &str) -> Option<Self> {
        let is_form = text.bytes().enumerate().all(|(index, byte)| match index {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
        if text.len() != 10 || !is_form {
            return None;
        }
        let mut parts = text.split('-').map(|part| part.parse::<i32>().ok());
        let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
        let date = Self::from_parts(year, month, day)?;
        // A day past the end of its month is the first of the next one, or later.
        (date.parts() == (year, month, day)).then_some(date)
    }

    /// The day `days` later.
    #[must_use]
    pub const fn plus(self, days: i32) -> Self {
        Self(self.0.saturating_add(days))
    }

    fn from_parts(year: i32, month: i32, day: i32) -> Option<Self> {
        if !(1..=12).contains(&month) || day < 1 {
            return None;
        }
        let (year, month) = if month > 2 {
            (year, month - 3)
        } else {
            (year - 1, month + 9)
        };
        let before = DAYS_BEFORE.get(usize::try_from(month).ok()?)?;
        let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
        // 719,468 days lie between 0000-03-01 and 1970-01-01.
        Some(Self(365 * year + leap_days + before + day - 1 - 719_468))
    }

    fn parts(self) -> (i32, i32, i32) {
        let days = i64::from(self.0) + 719_468;
        let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let day_of_year = i32::try_from(day_of_year).unwrap_or_default();
        let month = DAYS_BEFORE
            .iter()
            .rposition(|before| *before <= day_of_year)
            .unwrap_or(0);
        let day = day_of_year - DAYS_BEFORE.get(month).unwrap_or(&0) + 1;
        let year = i32::try_from(year_of_era + era * 400).unwrap_or(i32::MAX);
        let month = i32::try_from(month).unwrap_or_default();
        if month < 10 {
            (year, month + 3, day)
        } else {
            (year + 1, month - 9, day)
        }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.parts();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_four_centuries_is_read_as_it_is_written() {
        let (first, last) = (
            Date::parse("1900-01-01").unwrap(),
            Date::parse("2300-12-31").unwrap(),
        );
        let mut date = first;
        let mut before = String::new();
        while date <= last {
            let text = date.to_string();
            assert_eq!(Date::parse(&text), Some(date), "{text}");
            assert!(before < text, "{before} {text}");
            before = text;
            date = date.plus(1);
        }
        assert_eq!(Date::parse("1970-01-01"), Some(Date(0)));
        assert_eq!(Date::parse("2000-02-29"), Some(Date(11_016)));
        assert_eq!(
            Date::from_unix_seconds(951_782_400).to_string(),
            "2000-02-29"
        );
    }

    #[test]
    fn what_is_no_day_is_refused() {
        for text in [
            "",
            "2026-2-3",
            "2026-02-30",
            "2025-02-29",
            "2100-02-29",
            "2026-13-01",
            "2026-00-10",
            "2026-01-00",
            "2026/01/01",
            "20260101",
            "2026-01-01T",
            "+026-01-01",
        ] {
            assert_eq!(Date::parse(text), None, "{text}");
        }
    }
}
