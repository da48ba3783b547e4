use super::*;

fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "web".into(), name: name.into() }
}

fn author() -> Author {
    Author { node: "bettley".into(), pod: Some(("announcer-x".into(), "pod-uid".into())) }
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

fn wanted(services: &[(&str, &[&str])]) -> Wanted {
    let here = services.iter().map(|(service, interfaces)| (key(service), names(interfaces))).collect();
    Wanted { here, elsewhere: BTreeSet::new() }
}

/// A status as the agent of `node` wrote it.
fn written(object: &str, node: &str, service: &str, interfaces: &[&str]) -> ServiceL2Status {
    let author = Author { node: node.into(), ..author() };
    ServiceL2Status {
        metadata: ObjectMeta {
            name: Some(object.into()),
            owner_references: owners(&author),
            ..ObjectMeta::default()
        },
        spec: ServiceL2StatusSpec {},
        status: Some(status(&author, &key(service), &names(interfaces))),
    }
}

fn deleted(steps: &[Step]) -> Vec<&str> {
    let deletes = steps.iter().filter_map(|step| match step {
        Step::Delete(meta) => meta.name.as_deref(),
        _ => None,
    });
    deletes.collect()
}

#[test]
fn what_is_as_wanted_is_not_written_again() {
    let there = [written("l2-a", "bettley", "s", &["eth0"]), written("l2-b", "cargyll", "t", &[])];
    assert_eq!(plan(&author(), &wanted(&[("s", &["eth0"])]), &there), []);
}

#[test]
fn a_service_that_came_here_gets_a_status() {
    let steps = plan(&author(), &wanted(&[("s", &[])]), &[]);
    assert_eq!(steps, [Step::Create(key("s"), names(&[]))]);
}

#[test]
fn interfaces_that_changed_are_told_in_place() {
    let there = [written("l2-a", "bettley", "s", &["eth0"])];
    let steps = plan(&author(), &wanted(&[("s", &["eth1"])]), &there);
    assert_eq!(steps, [Step::Tell("l2-a".into(), key("s"), names(&["eth1"]))]);
}

#[test]
fn a_node_that_lost_a_service_deletes_its_own_status_and_nobody_elses() {
    let there = [written("l2-a", "bettley", "s", &[]), written("l2-b", "cargyll", "s", &[])];
    assert_eq!(deleted(&plan(&author(), &wanted(&[]), &there)), ["l2-a"]);
}

#[test]
fn the_new_owner_deletes_what_a_dead_node_left() {
    let there = [written("l2-a", "bettley", "s", &[]), written("l2-b", "cargyll", "s", &[])];
    assert_eq!(deleted(&plan(&author(), &wanted(&[("s", &[])]), &there)), ["l2-b"]);
}

#[test]
fn a_service_with_two_addresses_on_two_nodes_keeps_both_statuses() {
    let there = [written("l2-a", "bettley", "s", &[]), written("l2-b", "cargyll", "s", &[])];
    let mut wanted = wanted(&[("s", &[])]);
    wanted.elsewhere = [(key("s"), "cargyll".to_owned())].into();
    assert_eq!(plan(&author(), &wanted, &there), []);
}

#[test]
fn a_second_status_of_the_same_service_is_deleted() {
    let there = [written("l2-a", "bettley", "s", &[]), written("l2-b", "bettley", "s", &[])];
    assert_eq!(deleted(&plan(&author(), &wanted(&[("s", &[])]), &there)), ["l2-b"]);
}

#[test]
fn a_status_of_a_pod_that_was_replaced_is_given_to_the_new_one() {
    let mut there = [written("l2-a", "bettley", "s", &[])];
    there[0].metadata.owner_references =
        Some(vec![OwnerReference { uid: "old".into(), ..Default::default() }]);
    assert_eq!(plan(&author(), &wanted(&[("s", &[])]), &there), [Step::Adopt("l2-a".into())]);
}

#[test]
fn an_object_that_was_made_and_not_yet_filled_is_filled() {
    let author = author();
    let keeper_labels = [(NODE, "bettley"), (SERVICE_NAME, "s"), (SERVICE_NAMESPACE, "web")];
    let mut there = [written("l2-a", "bettley", "s", &[])];
    there[0].status = None;
    there[0].metadata.labels =
        Some(keeper_labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect());
    let steps = plan(&author, &wanted(&[("s", &[])]), &there);
    assert_eq!(steps, [Step::Tell("l2-a".into(), key("s"), names(&[]))]);
}

#[test]
fn what_says_neither_service_nor_node_is_left_alone() {
    let mut there = [written("l2-a", "bettley", "s", &[])];
    there[0].status = None;
    assert_eq!(plan(&author(), &wanted(&[]), &there), []);
}
