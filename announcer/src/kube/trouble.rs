//! What a failing watch means to an operator, and when to say it: once per outage, not once per attempt.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use kube::core::Status;

use super::{follow::FollowError, raw::is_garbled};

/// A trouble that has not been seen for this long is over. Longer than any wait between two attempts.
const OVER: Duration = Duration::from_secs(180);

/// Why a watch does not work.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Trouble {
    /// The API server does not know the kind.
    NoSuchKind,
    /// The right to read it is missing; what the API server says.
    Forbidden(String),
    /// The API server does not know who we are; what it says.
    Unauthorized(String),
    /// The API server answers that it cannot; what it says.
    Failing(String),
    /// The API server answers what nobody can read; what is wrong with it.
    Garbled(String),
    /// No answer.
    Unreachable(String),
}

impl Trouble {
    /// `None` for what belongs to a watch's life: an expired version, a connection that ends.
    pub(super) fn of(error: &FollowError) -> Option<Self> {
        match error {
            FollowError::List(kube::Error::Api(status))
            | FollowError::Open(kube::Error::Api(status))
            | FollowError::Ended(status) => Self::of_status(status),
            FollowError::List(error) | FollowError::Open(error) if is_garbled(error) => {
                Some(Self::Garbled(innermost(error)))
            }
            FollowError::List(error) | FollowError::Open(error) => Some(Self::Unreachable(innermost(error))),
            FollowError::Garbled(why) => Some(Self::Garbled(why.clone())),
            FollowError::Broke => None,
        }
    }

    fn of_status(status: &Status) -> Option<Self> {
        let message = || status.message.to_string();
        match status.code {
            401 => Some(Self::Unauthorized(message())),
            403 => Some(Self::Forbidden(message())),
            404 => Some(Self::NoSuchKind),
            410 => None,
            code => Some(Self::Failing(format!("status {code}: {}", message()))),
        }
    }

    /// Troubles with the same topic are told once, whatever kind they hit.
    fn topic(&self, kind: &'static str) -> Topic {
        match self {
            Self::NoSuchKind => Topic::NoSuchKind,
            Self::Forbidden(_) => Topic::Forbidden(kind),
            Self::Unauthorized(_) => Topic::Unauthorized,
            Self::Failing(_) => Topic::Failing,
            Self::Garbled(_) => Topic::Garbled(kind),
            Self::Unreachable(_) => Topic::Unreachable,
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Topic {
    NoSuchKind,
    Forbidden(&'static str),
    Unauthorized,
    Failing,
    Garbled(&'static str),
    Unreachable,
}

/// Remembers what has been told.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<Topic, Instant>);

impl Told {
    /// Whether this trouble is news.
    pub(super) fn is_news(&mut self, kind: &'static str, trouble: &Trouble, now: Instant) -> bool {
        let last = self.0.insert(trouble.topic(kind), now);
        last.is_none_or(|last| now.duration_since(last) > OVER)
    }
}

/// kube wraps a refused connection four times; the innermost error is the one that says something.
pub(super) fn innermost(error: &kube::Error) -> String {
    let mut source: &dyn std::error::Error = error;
    while let Some(inner) = source.source() {
        source = inner;
    }
    source.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(code: u16) -> FollowError {
        let status = Status { code, message: "said so".into(), ..Status::default() };
        FollowError::List(kube::Error::Api(Box::new(status)))
    }

    #[test]
    fn answers_are_told_apart_by_what_an_operator_can_do() {
        assert_eq!(Trouble::of(&answered(404)), Some(Trouble::NoSuchKind));
        assert_eq!(Trouble::of(&answered(403)), Some(Trouble::Forbidden("said so".into())));
        assert_eq!(Trouble::of(&answered(401)), Some(Trouble::Unauthorized("said so".into())));
    }

    #[test]
    fn an_answer_is_never_called_its_absence() {
        assert_eq!(Trouble::of(&answered(503)), Some(Trouble::Failing("status 503: said so".into())));
        let no_list = serde_json::from_str::<bool>("<html>").expect_err("no JSON");
        let garbled = Trouble::of(&FollowError::List(kube::Error::SerdeError(no_list)));
        assert!(matches!(garbled, Some(Trouble::Garbled(_))), "{garbled:?}");
        let garbled = Trouble::of(&FollowError::Garbled("no type".into()));
        assert_eq!(garbled, Some(Trouble::Garbled("no type".into())));
    }

    #[test]
    fn an_expired_resource_version_is_no_trouble() {
        assert_eq!(Trouble::of(&answered(410)), None);
    }

    #[test]
    fn an_outage_is_told_once_for_all_kinds_and_again_when_it_comes_back_later() {
        let (mut told, start) = (Told::default(), Instant::now());
        let trouble = Trouble::Unreachable("connection refused".into());
        assert!(told.is_news("Node", &trouble, start));
        assert!(!told.is_news("Service", &trouble, start));
        assert!(!told.is_news("Node", &trouble, start + OVER));
        assert!(told.is_news("Node", &trouble, start + 3 * OVER));
    }

    #[test]
    fn each_missing_right_is_told() {
        let (mut told, now) = (Told::default(), Instant::now());
        let trouble = Trouble::Forbidden("no".into());
        assert!(told.is_news("Node", &trouble, now));
        assert!(told.is_news("Service", &trouble, now));
        assert!(!told.is_news("Node", &trouble, now));
    }
}
