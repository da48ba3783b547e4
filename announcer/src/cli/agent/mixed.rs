//! Nodes of one cluster with different settings: of two promises the weaker one is what the cluster has.

use std::collections::BTreeSet;

use crate::election::{View, lease::Session};

/// Nodes that were named, so that each is named once, and again after it agreed.
#[derive(Debug, Default)]
pub(super) struct Mixed(BTreeSet<String>);

impl Mixed {
    /// Nodes that do not act as `node` does when the API server is away, or let themselves be fenced in another way, and were
    /// not named yet: which, our flags, theirs.
    pub(super) fn news(&mut self, view: &View, node: &str) -> Vec<(String, String, String)> {
        let Some(ours) = view.session(node).map(|seen| &seen.session) else { return Vec::new() };
        let mut differ = BTreeSet::new();
        let mut news = Vec::new();
        for theirs in view.sessions.values().map(|seen| &seen.session) {
            let Some(holder) = &theirs.holder else { continue };
            if (&theirs.on_api_loss, &theirs.fencing) == (&ours.on_api_loss, &ours.fencing) {
                continue;
            }
            if !self.0.contains(&holder.node) {
                news.push((holder.node.clone(), flags(ours), flags(theirs)));
            }
            differ.insert(holder.node.clone());
        }
        self.0 = differ;
        news
    }
}

fn flags(session: &Session) -> String {
    format!("--on-api-loss={} --fencing={}", session.on_api_loss, session.fencing)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use super::*;
    use crate::{
        election::lease::{Holder, Record, Version, session_name},
        vocabulary::BootNs,
    };

    fn says(view: &mut View, version: u64, node: &str, on_api_loss: &str, fencing: &str) {
        let session = Session {
            name: session_name(node),
            uid: format!("uid of {node}"),
            version: Version(version),
            holder: Some(Holder {
                node: node.to_owned(),
                boot_id: "b".to_owned(),
                machine_id: "m".to_owned(),
            }),
            epoch: 1,
            lease: Duration::from_secs(15),
            renewal: version.to_string(),
            links: Default::default(),
            left: None,
            agent: String::new(),
            on_api_loss: on_api_loss.to_owned(),
            fencing: fencing.to_owned(),
            suspects: BTreeSet::new(),
            early: None,
            unsteady: BTreeSet::new(),
            understood: true,
        };
        view.seen(BootNs(version), Record::Session(session));
    }

    #[test]
    fn a_node_with_other_settings_is_named_once_and_again_after_it_agreed() {
        let (mut view, mut mixed) = (View::default(), Mixed::default());
        says(&mut view, 1, "a", "hold", "early");
        says(&mut view, 2, "b", "hold", "early");
        assert_eq!(mixed.news(&view, "a"), []);
        says(&mut view, 3, "b", "fence", "early");
        let (ours, theirs) = ("--on-api-loss=hold --fencing=early", "--on-api-loss=fence --fencing=early");
        let news = [("b".to_owned(), ours.to_owned(), theirs.to_owned())];
        assert_eq!(mixed.news(&view, "a"), news);
        assert_eq!(mixed.news(&view, "a"), [], "once");
        says(&mut view, 4, "b", "hold", "early");
        assert_eq!(mixed.news(&view, "a"), []);
        says(&mut view, 5, "b", "fence", "early");
        assert_eq!(mixed.news(&view, "a"), news);
        // A third, by its fencing; the second is not named again.
        says(&mut view, 6, "c", "fence", "strict");
        let strict = "--on-api-loss=fence --fencing=strict";
        assert_eq!(mixed.news(&view, "a"), [("c".to_owned(), ours.to_owned(), strict.to_owned())]);
    }

    #[test]
    fn nobody_is_named_before_our_own_session_is_known() {
        let mut view = View::default();
        says(&mut view, 1, "b", "fence", "early");
        assert_eq!(Mixed::default().news(&view, "a"), []);
    }
}
