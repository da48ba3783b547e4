//! Inputs and requests in few words, for the story of a failure.

use crate::election::{Answer, Input, Request, lease::Record};

pub fn record(record: &Record) -> String {
    match record {
        Record::Session(s) => format!(
            "{}[{} v{} {} e{} D{} r{}{}]",
            s.name,
            s.uid,
            s.version.0,
            s.holder.as_ref().map_or("-", |holder| holder.boot_id.as_str()),
            s.epoch,
            s.lease.as_secs(),
            s.renewal.rsplit('-').next().unwrap_or_default(),
            s.suspects.iter().map(|of| format!(" suspects {of}")).collect::<String>(),
        ),
        Record::Claim(c) => format!(
            "{}[v{} {} {} e{}{}{}]",
            c.vip,
            c.version.0,
            c.holder.as_deref().unwrap_or("-"),
            c.session_uid,
            c.session_epoch,
            c.preferred.as_ref().map(|node| format!(" for {node}")).unwrap_or_default(),
            c.heir.as_ref().map(|heir| format!(" then {heir}")).unwrap_or_default(),
        ),
    }
}

pub fn request(request: &Request) -> String {
    match request {
        Request::Get(name) => format!("Get {name}"),
        Request::Survey => "Survey".to_owned(),
        Request::Put(to) => format!("Put {}", record(to)),
        Request::Delete(to) => format!("Delete {}", record(to)),
        Request::Probe(vip) => format!("Probe {vip}"),
        Request::Challenge => "Challenge".to_owned(),
        Request::Relist => "Relist".to_owned(),
    }
}

pub fn answer(answer: &Answer) -> String {
    match answer {
        Answer::Done(done) => format!("Done {}", record(done)),
        Answer::Surveyed(all) => format!("Surveyed {:?}", all.iter().map(record).collect::<Vec<_>>()),
        other => format!("{other:?}"),
    }
}

pub fn input(input: &Input) -> String {
    match input {
        Input::Demand(demand) => format!(
            "Demand of {} nodes {:?}",
            demand.nodes.len(),
            demand.vips.iter().map(|(vip, v)| format!("{vip} {:?}", v.candidates.keys())).collect::<Vec<_>>()
        ),
        Input::Listed(version, records) => {
            format!("Listed v{} {:?}", version.0, records.iter().map(record).collect::<Vec<_>>())
        }
        Input::Compared(version, records) => {
            format!("Compared v{} {:?}", version.0, records.iter().map(record).collect::<Vec<_>>())
        }
        Input::Changed(to) => format!("Changed {}", record(to)),
        Input::Deleted(gone) => format!("Deleted {}", record(gone)),
        Input::Answered(token, to) => format!("Answered {} {}", token.0, answer(to)),
        other => format!("{other:?}"),
    }
}
