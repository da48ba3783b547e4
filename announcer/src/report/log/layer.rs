//! The `tracing` layer that turns each event into one line.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use jiff::Timestamp;
use serde_json::Value;
use tracing::{
    Event, Subscriber,
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    fmt::MakeWriter,
    layer::Context,
    registry::{LookupSpan, SpanRef},
};

use super::{
    LogFormat,
    fields::{Fields, text},
};
use crate::report::printable::{is_unfit, printable, printable_json};

/// Formats events with the clock it is given, and writes each line by one call.
pub(in crate::report) struct LineLayer<W> {
    format: LogFormat,
    clock: fn() -> Timestamp,
    writer: W,
}

impl<W> LineLayer<W> {
    pub(in crate::report) fn new(format: LogFormat, clock: fn() -> Timestamp, writer: W) -> Self {
        Self { format, clock, writer }
    }
}

impl<S, W> Layer<S> for LineLayer<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        for span in context.event_scope(event).into_iter().flatten() {
            inherit(&mut fields, &span);
        }
        let target = fields.log_target.take().unwrap_or_else(|| event.metadata().target().to_owned());
        if !target.starts_with(env!("CARGO_CRATE_NAME")) {
            fields.pairs.push(("target".to_owned(), Value::from(target)));
        }
        let level = event.metadata().level().as_str();
        let now = (self.clock)();
        let line = match self.format {
            LogFormat::Json => json(level, now, &fields),
            LogFormat::Text => people(level, now, &fields),
        };
        // A log that can't be written must not end the agent.
        let _: io::Result<()> = self.writer.make_writer_for(event.metadata()).write_all(line.as_bytes());
    }
}

fn inherit<'a>(fields: &mut Fields, span: &SpanRef<'a, impl LookupSpan<'a>>) {
    if let Some(outer) = span.extensions().get::<Fields>() {
        fields.inherit(outer);
    }
}

fn json(level: &str, now: Timestamp, fields: &Fields) -> String {
    let message = Value::from(fields.message.as_str());
    let mut line = format!(r#"{{"level":"{}","ts":"{now:.3}","msg":{message}"#, level.to_lowercase());
    for (name, value) in &fields.pairs {
        let _infallible = write!(line, ",{}:{value}", Value::from(name.as_str()));
    }
    line.push_str("}\n");
    printable_json(line)
}

fn people(level: &str, now: Timestamp, fields: &Fields) -> String {
    let mut line = format!("{now:.3} {level:<5} {}", printable(&fields.message));
    for (name, value) in &fields.pairs {
        let _infallible = write!(line, " {name}={}", quoted(text(value)));
    }
    line.push('\n');
    line
}

fn quoted(text: String) -> String {
    let bare =
        !text.is_empty() && text.chars().all(|c| !c.is_whitespace() && !is_unfit(c) && !"\"'=\\".contains(c));
    if bare { text } else { printable_json(Value::from(text).to_string()) }
}
