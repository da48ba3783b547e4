//! `deploy/overlays/standalone` as it is published, on virtual links like kind's: `auto` takes TCX.

use std::time::Duration;

use announcer_tests::{
    Cluster, Mode,
    product::{self, ADVERTISEMENT_YAML, FIRST_VIP, POOL_YAML},
    web,
};
use anyhow::Result;

use super::assert_one_owner_at_a_time;

#[test]
fn the_untouched_base_answers_by_tcx_on_virtual_links() -> Result<()> {
    let cluster = Cluster::builder().nodes(2).mode(Mode::Tcx).image(product::image()?).start()?;
    // What the base names is what was built: another name for the same image.
    for node in cluster.nodes() {
        node.exec(&[
            "ctr",
            "--address",
            "/run/containerd/containerd.sock",
            "-n",
            "k8s.io",
            "images",
            "tag",
            "localhost/announcer:lab",
            &product::base_image()?,
        ])?;
    }
    cluster.install_announcer("overlays/standalone")?;
    cluster.apply_yaml(POOL_YAML)?;
    cluster.apply_yaml(ADVERTISEMENT_YAML)?;
    cluster.apply_yaml(&web::manifest("httpbin", 2))?;
    let _allocator = cluster.allocator()?;
    let owner = cluster.wait_owner(FIRST_VIP, None, Duration::from_secs(30))?;
    let judge = cluster.judge(&[FIRST_VIP])?;
    cluster.wait_curl(cluster.client(), FIRST_VIP, Duration::from_secs(30))?;
    let node = cluster.node(&owner)?;
    assert_one_owner_at_a_time(&judge.finish()?, FIRST_VIP, &[node.mac()]);
    let logs = cluster.speaker_logs(&["--tail=-1"])?;
    assert!(logs.contains("eth0 (tcx"), "{logs}");
    Ok(())
}
