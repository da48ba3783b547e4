//! Takes a list apart while it arrives.
//!
//! Imagine a train that passes a platform: the wagons between the brackets of `items` are uncoupled one by one, and what
//! is left is an engine without wagons, the list's own metadata. No more than one wagon has to stand on the platform.

use super::object::LARGEST;

/// The longest that a list may be without its items, in bytes.
const AROUND: usize = 1 << 20;

/// What has arrived of a list and is not told yet.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    /// The list without its items.
    around: Vec<u8>,
    /// The item that is arriving; no longer than [`LARGEST`].
    item: Vec<u8>,
    /// How many brackets are open.
    depth: usize,
    /// A string is open.
    string: Option<InString>,
    /// Where the last string of the list's own level stands in `around`.
    last: (usize, usize),
    /// The value that follows is that of `items`.
    is_items: bool,
    /// The bracket of `items` is open.
    in_items: bool,
}

/// How far a string has been read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum InString {
    Plain,
    /// The next byte is taken as it is.
    Escaped,
}

impl Splitter {
    /// Takes what has arrived, and gives every item that is complete by it to `each`.
    pub(super) fn take(&mut self, bytes: &[u8], mut each: impl FnMut(Vec<u8>)) {
        for byte in bytes {
            self.byte(*byte, &mut each);
        }
    }

    /// The list without its items, when all of it has arrived.
    pub(super) fn around(&self) -> &[u8] {
        &self.around
    }

    fn byte(&mut self, byte: u8, each: &mut impl FnMut(Vec<u8>)) {
        if self.in_items && self.depth == 2 && self.string.is_none() {
            match byte {
                b',' | b']' => {
                    if !self.item.is_empty() {
                        each(std::mem::take(&mut self.item));
                    }
                    if byte == b']' {
                        (self.in_items, self.depth) = (false, 1);
                        self.keep(byte);
                    }
                    return;
                }
                b' ' | b'\n' | b'\r' | b'\t' if self.item.is_empty() => return,
                _ => {}
            }
        }
        self.keep(byte);
        if let Some(within) = self.string {
            self.string = match (within, byte) {
                (InString::Escaped, _) => Some(InString::Plain),
                (InString::Plain, b'\\') => Some(InString::Escaped),
                (InString::Plain, b'"') => None,
                (InString::Plain, _) => Some(InString::Plain),
            };
            if self.string.is_none() && self.depth == 1 {
                self.last.1 = self.around.len().saturating_sub(1);
            }
            return;
        }
        match byte {
            b'"' => {
                self.string = Some(InString::Plain);
                if self.depth == 1 {
                    self.last.0 = self.around.len();
                }
            }
            b':' if self.depth == 1 => {
                self.is_items = self.around.get(self.last.0..self.last.1) == Some(b"items");
            }
            b',' if self.depth == 1 => self.is_items = false,
            b'{' | b'[' => {
                self.in_items |= byte == b'[' && self.depth == 1 && self.is_items;
                self.depth += 1;
            }
            // An item that closes more than it has opened does not close the list.
            b'}' | b']' if !(self.in_items && self.depth == 2) => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }

    fn keep(&mut self, byte: u8) {
        let (to, most) = if self.in_items { (&mut self.item, LARGEST) } else { (&mut self.around, AROUND) };
        // What is cut off cannot be decoded, and is told as what it is.
        if to.len() < most {
            to.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The items of a list and what is around them, arriving in pieces of this size.
    fn split(list: &str, size: usize) -> (Vec<String>, String) {
        let (mut splitter, mut items) = (Splitter::default(), Vec::new());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        list.as_bytes().chunks(size).for_each(|piece| splitter.take(piece, |item| items.push(text(&item))));
        (items, text(splitter.around()))
    }

    #[test]
    fn items_come_one_by_one_however_the_list_arrives() {
        let list = r#"{"kind":"List","items":[ {"a":"]},{"}, 7 ,[1,[2]],"x\"],\\", {"items":[3]}
            ],"metadata":{"items":[4],"resourceVersion":"5"}}"#;
        let items = [r#"{"a":"]},{"}"#, "7 ", "[1,[2]]", r#""x\"],\\""#, "{\"items\":[3]}\n            "];
        let around = r#"{"kind":"List","items":[],"metadata":{"items":[4],"resourceVersion":"5"}}"#;
        for size in [1, 2, 3, 7, 1000] {
            let (found, rest) = split(list, size);
            assert_eq!(
                (found.as_slice(), rest.as_str()),
                (items.map(String::from).as_slice(), around),
                "{size}"
            );
        }
    }

    #[test]
    fn a_list_without_items_is_all_around() {
        for list in
            [r#"{"items":null,"metadata":{}}"#, r#"{"items":[]}"#, r#"{"a":["items"]}"#, "[1,2]", "]]}}"]
        {
            let (items, around) = split(list, 1);
            assert_eq!((items.len(), around.as_str()), (0, list));
        }
    }

    #[test]
    fn an_item_that_closes_too_much_takes_no_other_along() {
        let (items, _) = split(r#"{"items":[{"a":1}},{"b":2}]}"#, 1);
        assert_eq!(items, [r#"{"a":1}}"#, r#"{"b":2}"#]);
    }

    #[test]
    fn an_item_is_kept_up_to_the_longest_that_is_of_use_and_the_next_one_comes_through() {
        let large = "x".repeat(LARGEST + 5);
        let (items, _) = split(&format!(r#"{{"items":["{large}",{{"b":2}}]}}"#), 1 << 20);
        assert_eq!((items[0].len(), items[1].as_str()), (LARGEST, r#"{"b":2}"#));
    }
}
