//! Text in which a peer may have a say.

use crate::prelude::*;
use core::fmt::{Display, Write};

/// Returns a text that is safe to log and to show: on one line, without control characters, and at
/// most 512 characters long.
///
/// Errors of a transport may quote what the peer has sent. Shown as it is, it could forge lines of
/// a log, hide what comes before it, or change the direction of writing. Line breaks become
/// spaces, other characters of that kind their escapes.
///
/// ```
/// use glueberry_proto::printable;
///
/// assert_eq!(printable("closed: bye\nERROR forged"), "closed: bye ERROR forged");
/// assert_eq!(printable("\u{1b}[2J\u{202e}x"), "\\u{1b}[2J\\u{202e}x");
/// ```
pub fn printable(text: impl Display) -> String {
    let mut limited = Printable { text: String::new(), left: MOST };
    // An error only means that the text was cut.
    if write!(limited, "{text}").is_err() {
        limited.text.push('…');
    }
    limited.text
}

/// Escapes as it is written to, and takes no more than it has room for, however long the text is.
struct Printable {
    text: String,
    left: usize,
}

impl Write for Printable {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for character in text.chars() {
            self.left = self.left.checked_sub(1).ok_or(core::fmt::Error)?;
            match character {
                '\n' | '\r' | '\t' => self.text.push(' '),
                character if is_unsafe(character) => self.text.extend(character.escape_unicode()),
                character => self.text.push(character),
            }
        }
        Ok(())
    }
}

/// Returns whether a character changes how the text around it is shown: a control character, a line
/// or paragraph separator, or one of those that set the direction of writing (UAX #9).
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        )
}

/// Characters of a text that are shown.
const MOST: usize = 512;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_long_text_is_cut() {
        let text = printable("x".repeat(1 << 20));
        assert_eq!(text.chars().count(), MOST + 1);
        assert!(text.ends_with("x…"));
        assert_eq!(printable("y".repeat(MOST)), "y".repeat(MOST));
    }

    proptest! {
        #[test]
        fn nothing_unsafe_is_left(text in any::<String>()) {
            prop_assert!(!printable(&text).chars().any(is_unsafe));
        }
    }
}
