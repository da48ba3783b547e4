use super::*;
use crate::vocabulary::{Link, Mac};

fn view(links: &[(u32, bool)]) -> LinkView {
    let link = |(id, carrier): &(u32, bool)| Link {
        id: LinkId(*id),
        name: format!("eth{id}"),
        mac: Mac([2, 0, 0, 0, 0, 1]),
        kind: None,
        carrier: *carrier,
        mtu: 1500,
        master: None,
        vlan: None,
        has_global_address: true,
        ipv6_source: None,
    };
    LinkView {
        links: links.iter().map(|known| (LinkId(known.0), link(known))).collect(),
        ..LinkView::default()
    }
}

fn ids(ids: &[u32]) -> BTreeSet<LinkId> {
    ids.iter().copied().map(LinkId).collect()
}

fn segments(known: &[u32], shared: &[(u32, u32)]) -> Segments {
    Segments {
        known: ids(known),
        shared: shared.iter().map(|(one, other)| (LinkId(*one), LinkId(*other))).collect(),
    }
}

fn chosen(segments: &Segments, view: &LinkView) -> Choice {
    segments.choose(&view.links.keys().copied().collect(), view, &BTreeSet::new())
}

#[test]
fn of_two_links_on_one_segment_one_answers_and_it_is_the_nodes_own() {
    let mut view = view(&[(2, true), (3, true), (4, true)]);
    let segments = segments(&[2, 3, 4], &[(2, 3)]);
    let choice = chosen(&segments, &view);
    assert_eq!((choice.answer, choice.leave_it), (ids(&[2, 4]), [(LinkId(3), LinkId(2))].into()));
    view.uplinks = ids(&[3]);
    let choice = chosen(&segments, &view);
    assert_eq!((choice.answer, choice.leave_it), (ids(&[3, 4]), [(LinkId(2), LinkId(3))].into()));
}

#[test]
fn a_link_that_is_alone_in_a_selection_answers_whoever_else_is_on_its_segment() {
    let choice =
        segments(&[2, 3], &[(2, 3)]).choose(&ids(&[3]), &view(&[(2, true), (3, true)]), &BTreeSet::new());
    assert_eq!(choice.answer, ids(&[3]));
}

#[test]
fn without_carrier_a_link_leaves_the_answers_to_the_other() {
    // The pair is forgotten with the carrier; were it not, the other answers all the same.
    let choice = chosen(&segments(&[2, 3], &[(2, 3)]), &view(&[(2, false), (3, true)]));
    assert_eq!((choice.answer, choice.leave_it), (ids(&[2, 3]), [].into()));
}

#[test]
fn a_new_link_listens_before_it_answers_beside_others_and_not_if_it_is_the_only_one() {
    let choice = chosen(&segments(&[3], &[]), &view(&[(2, true), (3, true)]));
    assert_eq!((choice.answer, choice.listen), (ids(&[3]), ids(&[2])));
    let choice = chosen(&segments(&[], &[]), &view(&[(2, true), (3, true)]));
    assert_eq!((choice.answer, choice.listen), (ids(&[2]), ids(&[3])));
}
