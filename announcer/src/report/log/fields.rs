//! The fields of a span or an event, typed and in order, each name once.

use std::{error::Error, fmt};

use serde_json::Value;
use tracing::field::{Field, Visit};

/// What every line has of its own: a field of that name gets an underscore.
const RESERVED: [&str; 3] = ["level", "ts", "msg"];

/// The message, and all other fields in the order of their first mention.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) message: String,
    pub(super) pairs: Vec<(String, Value)>,
    /// Where a record of the `log` crate came from (`log.target`).
    pub(super) log_target: Option<String>,
}

impl Fields {
    /// Adds those of an enclosing span: what is nearer to the event wins.
    pub(super) fn inherit(&mut self, outer: &Self) {
        for (name, value) in &outer.pairs {
            if !self.pairs.iter().any(|(known, _)| known == name) {
                self.pairs.push((name.clone(), value.clone()));
            }
        }
    }

    fn set(&mut self, field: &Field, value: Value) {
        match field.name() {
            "message" => self.message = text(&value),
            "log.target" => self.log_target = Some(text(&value)),
            name if name.starts_with("log.") => {}
            name => {
                let name = if RESERVED.contains(&name) { format!("{name}_") } else { name.to_owned() };
                match self.pairs.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, known)) => *known = value,
                    None => self.pairs.push((name, value)),
                }
            }
        }
    }
}

/// A value for people: a string bare, anything else as JSON.
pub(super) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        let number = serde_json::Number::from_f64(value);
        self.set(field, number.map_or_else(|| Value::from(value.to_string()), Value::Number));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value.into());
    }

    /// With its causes, which `Display` of most errors leaves out.
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let (mut chain, mut cause) = (value.to_string(), value.source());
        while let Some(error) = cause {
            chain = format!("{chain}: {error}");
            cause = error.source();
        }
        self.set(field, chain.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, format!("{value:?}").into());
    }
}
