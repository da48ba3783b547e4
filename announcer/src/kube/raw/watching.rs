//! The lines of a watch, each understood by itself.

use std::{io, pin::Pin};

use futures::io::{AsyncBufRead, AsyncBufReadExt as _};
use kube::core::Status;
use serde::Deserialize;
use serde_json::Value;

use super::object::{Head, LARGEST, RawObject};

/// The words around an object in its line are fewer bytes than this.
const ENVELOPE: usize = 1 << 10;

/// One line of a watch.
#[derive(Debug)]
pub(crate) enum Line {
    /// An object was added or modified.
    Changed(RawObject),
    /// An object was deleted.
    Deleted(RawObject),
    /// Nothing has happened up to this version.
    Bookmark(String),
    /// The API server ends the watch: most often 410, the version is too old to go on from.
    Ended(Box<Status>),
    /// A line that names no object, with what is wrong in it: what it told can only be seen by a list.
    Garbled(String),
}

#[derive(Deserialize)]
struct Wire {
    r#type: String,
    object: Head,
}

impl Line {
    fn of(line: Vec<u8>) -> Self {
        if line.len() >= LARGEST + ENVELOPE {
            return Self::Garbled(format!("it is larger than {} MiB", LARGEST >> 20));
        }
        let Wire { r#type: kind, object } = match serde_json::from_slice(&line) {
            Ok(wire) => wire,
            Err(error) => return Self::Garbled(error.to_string()),
        };
        if kind == "ERROR" {
            return Self::Ended(status(&line).boxed());
        }
        let object = RawObject::in_line(object, line);
        let is_named = object.key().is_some();
        match (kind.as_str(), object.version()) {
            ("BOOKMARK", Some(version)) => Self::Bookmark(version.to_owned()),
            ("ADDED" | "MODIFIED", _) if is_named => Self::Changed(object),
            ("DELETED", _) if is_named => Self::Deleted(object),
            _ => Self::Garbled(format!("an event of type {kind:?} that names no object")),
        }
    }
}

/// What the API server says of the end of a watch, as far as it can be read.
fn status(line: &[u8]) -> Status {
    let line: Value = serde_json::from_slice(line).unwrap_or_default();
    let said = &line["object"];
    let text = |field: &str| said[field].as_str().unwrap_or_default();
    let code = said["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or_default();
    Status::failure(text("message"), text("reason")).with_code(code)
}

/// A watch that is open.
pub(crate) struct Lines {
    body: Pin<Box<dyn AsyncBufRead + Send>>,
    /// What has arrived of the next line.
    line: Vec<u8>,
}

impl Lines {
    pub(super) fn new(body: impl AsyncBufRead + Send + 'static) -> Self {
        Self { body: Box::pin(body), line: Vec::new() }
    }

    /// The next line; `None` when the watch has ended. May be given up at any time without losing anything.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let arrived = self.body.fill_buf().await?;
            if arrived.is_empty() {
                // A line that breaks off with its watch comes again with the next one.
                return Ok(None);
            }
            let end = arrived.iter().position(|byte| *byte == b'\n');
            let (piece, taken) = end.map_or((arrived, arrived.len()), |end| (&arrived[..end], end + 1));
            let room = (LARGEST + ENVELOPE).saturating_sub(self.line.len());
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
            self.body.as_mut().consume(taken);
            if end.is_some() {
                let line = std::mem::take(&mut self.line);
                if !line.trim_ascii().is_empty() {
                    return Ok(Some(Line::of(line)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{executor::block_on, io::Cursor};

    use super::*;

    fn lines(text: &str) -> Vec<String> {
        let mut lines = Lines::new(Cursor::new(text.as_bytes().to_vec()));
        let mut all = Vec::new();
        while let Some(line) = block_on(lines.next()).expect("no broken connection") {
            all.push(match line {
                Line::Changed(object) => format!("changed {}", object.key().expect("a name").name),
                Line::Deleted(object) => format!("deleted {}", object.key().expect("a name").name),
                Line::Bookmark(version) => format!("bookmark {version}"),
                Line::Ended(status) => format!("ended {} {}", status.code, status.message),
                Line::Garbled(why) => format!("garbled: {why}"),
            });
        }
        all
    }

    #[test]
    fn each_line_is_understood_by_itself() {
        let told = lines(concat!(
            r#"{"type":"ADDED","object":{"metadata":{"name":"a","labels":7}}}"#,
            "\nnonsense\n\n",
            r#"{"type":"MODIFIED","object":{"metadata":{}}}"#,
            "\n",
            r#"{"type":"DELETED","object":{"metadata":{"name":"b"},"spec":[]}}"#,
            "\n",
            r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}"#,
            "\n",
            r#"{"type":"ERROR","object":{"code":410,"message":"too old","details":7}}"#,
            "\n",
            r#"{"type":"DELE"#,
        ));
        assert_eq!(
            told,
            [
                "changed a",
                "garbled: expected ident at line 1 column 2",
                "garbled: an event of type \"MODIFIED\" that names no object",
                "deleted b",
                "bookmark 9",
                "ended 410 too old",
            ]
        );
    }
}
