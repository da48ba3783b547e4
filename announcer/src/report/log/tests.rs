use std::{
    io,
    sync::{Arc, Mutex},
};

use tracing::{debug, error, info, info_span, subscriber::with_default, warn};
use tracing_subscriber::fmt::MakeWriter;

use super::*;

/// Notes each write by itself.
#[derive(Clone, Default)]
struct Writes(Arc<Mutex<Vec<String>>>);

impl io::Write for Writes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").push(String::from_utf8_lossy(bytes).into_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Writes {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

fn then() -> jiff::Timestamp {
    "2024-01-15T10:30:00.0426Z".parse().expect("a time")
}

/// What is written while `events` runs, one entry per write.
fn lines(format: LogFormat, level: LevelFilter, events: impl FnOnce()) -> Vec<String> {
    let writes = Writes::default();
    let layer = LineLayer::new(format, then, writes.clone());
    with_default(tracing_subscriber::registry().with(layer).with(filter(level)), events);
    // Another test's thread that registers an event may hold the subscriber, and with it `writes`, for a moment.
    std::mem::take(&mut *writes.0.lock().expect("no panic"))
}

fn json(events: impl FnOnce()) -> Vec<String> {
    lines(LogFormat::Json, LevelFilter::INFO, events)
}

fn text(events: impl FnOnce()) -> Vec<String> {
    lines(LogFormat::Text, LevelFilter::INFO, events)
}

#[test]
fn a_line_is_flat_json_with_its_fields_in_order() {
    assert_eq!(
        json(|| info!(ip = %"10.4.11.1", node = "bettley", "announcing")),
        [concat!(
            r#"{"level":"info","ts":"2024-01-15T10:30:00.042Z","msg":"announcing","ip":"10.4.11.1","node":"bettley"}"#,
            "\n"
        )]
    );
}

#[test]
fn numbers_and_booleans_keep_their_type() {
    assert_eq!(
        json(|| warn!(epoch = 7_u64, delta = -2, share = 0.5, nan = f64::NAN, live = true, "x")),
        [concat!(
            r#"{"level":"warn","ts":"2024-01-15T10:30:00.042Z","msg":"x","#,
            r#""epoch":7,"delta":-2,"share":0.5,"nan":"NaN","live":true}"#,
            "\n"
        )]
    );
}

#[test]
fn quotes_and_line_ends_stay_within_the_line() {
    assert_eq!(
        json(|| info!(name = "a\"b\n", "two\nlines")),
        [concat!(
            r#"{"level":"info","ts":"2024-01-15T10:30:00.042Z","msg":"two\nlines","name":"a\"b\n"}"#,
            "\n"
        )]
    );
    assert_eq!(
        text(|| info!(name = "a\"b\n", "two\nlines\u{1b}[2J")),
        ["2024-01-15T10:30:00.042Z INFO  two\\nlines\\u{1b}[2J name=\"a\\\"b\\n\"\n"]
    );
}

#[test]
fn no_control_or_bidi_character_of_others_reaches_a_terminal() {
    let events = || {
        let outer = info_span!("agent", node = "\u{9b}2J");
        let _outer = outer.enter();
        warn!(name = "\u{9b}2J\u{202e}", other = "\u{7f}", "gone\u{9b}2J\u{2066}");
    };
    assert_eq!(
        text(events),
        [concat!(
            r"2024-01-15T10:30:00.042Z WARN  gone\u{9b}2J\u{2066} ",
            r#"name="\u009b2J\u202e" other="\u007f" node="\u009b2J""#,
            "\n"
        )]
    );
    assert_eq!(
        json(events),
        [concat!(
            r#"{"level":"warn","ts":"2024-01-15T10:30:00.042Z","msg":"gone\u009b2J\u2066","#,
            r#""name":"\u009b2J\u202e","other":"\u007f","node":"\u009b2J"}"#,
            "\n"
        )]
    );
}

#[test]
fn fields_of_spans_are_merged_the_nearer_first_and_none_twice() {
    let events = || {
        let outer = info_span!("agent", node = "bettley", ip = "outer");
        let _outer = outer.enter();
        let inner = info_span!("vip", ip = "inner", link = tracing::field::Empty);
        let _inner = inner.enter();
        inner.record("link", "eth0");
        info!(ip = "own", "x");
    };
    assert_eq!(
        json(events),
        [concat!(
            r#"{"level":"info","ts":"2024-01-15T10:30:00.042Z","msg":"x","ip":"own","link":"eth0","node":"bettley"}"#,
            "\n"
        )]
    );
}

#[test]
fn a_field_never_takes_the_place_of_level_ts_or_msg() {
    assert_eq!(
        json(|| info!(msg = "a", level = "b", ts = "c", "x")),
        [concat!(
            r#"{"level":"info","ts":"2024-01-15T10:30:00.042Z","msg":"x","msg_":"a","level_":"b","ts_":"c"}"#,
            "\n"
        )]
    );
}

#[test]
fn an_error_is_told_with_its_causes() {
    #[derive(Debug, thiserror::Error)]
    #[error("can't open the socket")]
    struct Outer(#[source] io::Error);
    let problem = Outer(io::Error::from_raw_os_error(libc::EPERM));
    let events = || error!(error = &problem as &(dyn std::error::Error + 'static), "no netlink");
    assert_eq!(
        json(events),
        [concat!(
            r#"{"level":"error","ts":"2024-01-15T10:30:00.042Z","msg":"no netlink","#,
            r#""error":"can't open the socket: Operation not permitted (os error 1)"}"#,
            "\n"
        )]
    );
}

#[test]
fn text_is_for_people() {
    let events = || warn!(ip = %"10.4.11.1", why = "two words", empty = "", n = 3, "withdrawn");
    assert_eq!(
        text(events),
        ["2024-01-15T10:30:00.042Z WARN  withdrawn ip=10.4.11.1 why=\"two words\" empty=\"\" n=3\n"]
    );
}

#[test]
fn dependencies_speak_from_warn_up_and_say_who_they_are() {
    let events = || {
        info!(target: "kube::client", "chatter");
        warn!(target: "kube::client", "trouble");
        debug!("too low for info");
    };
    assert_eq!(
        json(events),
        [concat!(
            r#"{"level":"warn","ts":"2024-01-15T10:30:00.042Z","msg":"trouble","target":"kube::client"}"#,
            "\n"
        )]
    );
}

#[test]
fn the_level_opens_this_crate_alone() {
    let events = || {
        debug!("ours");
        debug!(target: "hyper", "theirs");
    };
    assert_eq!(lines(LogFormat::Text, LevelFilter::DEBUG, events), ["2024-01-15T10:30:00.042Z DEBUG ours\n"]);
    assert_eq!(lines(LogFormat::Text, LevelFilter::ERROR, || warn!(target: "hyper", "theirs")), [""; 0]);
}

#[test]
fn the_kernel_s_lines_are_written_whatever_the_level() {
    let events = || debug!(target: KernelLogReader::TARGET, ip = "10.4.11.1", "kernel: answered");
    assert_eq!(
        lines(LogFormat::Text, LevelFilter::ERROR, events),
        ["2024-01-15T10:30:00.042Z DEBUG kernel: answered ip=10.4.11.1\n"]
    );
}

#[test]
fn a_panic_is_a_line_like_all_others() {
    // The hook is the whole process's; other tests may panic meanwhile.
    let (this, before) = (thread::current().id(), panic::take_hook());
    panic::set_hook(Box::new(move |panicked| {
        if thread::current().id() == this { tell_panic(panicked) } else { before(panicked) }
    }));
    let told = json(|| drop(panic::catch_unwind(|| panic!("a fault \"of\" the test"))));
    let [line] = &told[..] else { panic!("{told:?}") };
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert_eq!((&line["level"], &line["msg"]), (&"error".into(), &"Panicked".into()));
    assert_eq!(line["error"], r#"a fault "of" the test"#);
    assert!(line["at"].as_str().is_some_and(|at| at.contains("report/log/tests.rs:")), "{line}");
}
