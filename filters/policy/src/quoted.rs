//! Text from a policy document inside an error.

use std::fmt::{self, Write as _};

/// How much of a text is quoted.
const MAX_CHARS: usize = 100;

/// Displays text in double quotes, control characters escaped, cut after 100 characters.
///
/// Not `{:?}`: with its tables for all of Unicode that would be a tenth of a module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quoted<'t>(pub(crate) &'t str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        Escaped(self.0).fmt(f)?;
        f.write_char('"')
    }
}

/// The same without the quotes, for a name in a path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Escaped<'t>(pub(crate) &'t str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, char) in self.0.chars().enumerate() {
            match char {
                _ if index == MAX_CHARS => {
                    f.write_char('…')?;
                    break;
                }
                '"' | '\\' => {
                    f.write_char('\\')?;
                    f.write_char(char)?;
                }
                '\n' => f.write_str("\\n")?,
                _ if char.is_ascii_control() => write!(f, "\\x{:02x}", u32::from(char))?,
                _ => f.write_char(char)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_cannot_forge_log_lines() {
        let quoted = Quoted("a\"\\\n\u{1b}ü").to_string();
        assert_eq!(quoted, r#""a\"\\\n\x1bü""#);
        assert_eq!(Quoted(&"x".repeat(500)).to_string().chars().count(), 103);
    }
}
