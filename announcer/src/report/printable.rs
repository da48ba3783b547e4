//! Text of others, made fit for a terminal: what a Lease, an object, an API message or an interface is called must not
//! move the reader's cursor, colour or overwrite what stands there, or turn the order of the letters round.

use std::borrow::Cow;

/// Whether a terminal, or a viewer of text, does something else with `c` than show it: the control characters of Unicode
/// (C0, DEL, C1: ECMA-48), the bidirectional ones (UAX #9, §2), and the separators that end a line (U+2028, U+2029).
pub(in crate::report) fn is_unfit(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` in one line, each unfit character as Rust writes it: `\n`, `\u{9b}`.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unfit) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_unfit(c) {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    Cow::Owned(line)
}

/// Valid JSON that means the same, with unfit characters within its strings as `\u009b`. serde_json itself escapes C0
/// alone, as JSON demands; beyond ASCII a JSON text has characters in strings only.
pub fn printable_json(json: String) -> String {
    let unfit = |c: char| !c.is_ascii_control() && is_unfit(c) || c == '\u{7f}';
    if !json.contains(unfit) {
        return json;
    }
    let mut text = String::with_capacity(json.len() + 8);
    for c in json.chars() {
        if unfit(c) {
            // All of them lie in the first plane: one unit each.
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clears a terminal by C1, by C0, deletes, and turns what follows round, in each way that Unicode has.
    const HOSTILE: &str = "\u{9b}2J\u{1b}[2J\u{7f}\u{202e}\u{2066}\u{200f}\u{61c}\u{2028}\n\t\u{85}";

    #[test]
    fn no_control_or_bidi_character_of_others_is_printed() {
        let text = printable(HOSTILE);
        assert_eq!(text, r"\u{9b}2J\u{1b}[2J\u{7f}\u{202e}\u{2066}\u{200f}\u{61c}\u{2028}\n\t\u{85}");
        assert!(!text.contains(is_unfit));
    }

    #[test]
    fn letters_of_every_script_are_printed_as_they_are() {
        let text = "größe 名前 שם اسم 🙂 \\u{9b}";
        assert!(matches!(printable(text), Cow::Borrowed(same) if same == text));
    }

    #[test]
    fn json_with_escapes_means_the_same() {
        let value = serde_json::json!({"name\u{9d}": HOSTILE, "list": ["größe", "\u{7f}"]});
        let pretty = serde_json::to_string_pretty(&value).expect("JSON");
        let text = printable_json(pretty.clone());
        assert!(!text.contains(|c| is_unfit(c) && c != '\n'), "{text:?}");
        assert!(text.contains(r"\u009b2J\u001b[2J\u007f\u202e"), "{text}");
        assert_eq!(text.matches('\n').count(), pretty.matches('\n').count());
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("JSON"), value);
    }
}
