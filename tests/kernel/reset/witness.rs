//! What nftables and connection tracking beside us see of a reset flow: a RST of the flow, no byte of the client's.

use std::io::{Read, Write};

use sensor_tests::is_root_or_skips;

use super::scene::{Family, Offload, PORT, Place, Scene};

const WITNESS: &str = "\
add table inet w
add counter inet w resets
add counter inet w strangers
add counter inet w leaked
add chain inet w f { type filter hook forward priority 0; }
add rule inet w f ct state invalid counter name strangers
add rule inet w f ct direction original ct state established tcp flags & rst == rst counter name resets
add rule inet w f ct direction original tcp flags & psh == psh @th,256,32 0x6c65616b counter name leaked
";

fn count(scene: &Scene, name: &str) -> u64 {
    let text = scene.host.sh(&format!("nft list counter inet w {name}")).unwrap();
    let after = text.split("packets ").nth(1).unwrap();
    after.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn connection_tracking_beside_us_sees_the_flow_end() {
    if !is_root_or_skips("connection_tracking_beside_us") {
        return;
    }
    for (place, family) in [
        (Place::Routed, Family::V4),
        (Place::Translated, Family::V4),
        (Place::Translated, Family::V6),
    ] {
        let scene = Scene::new(place, family, Offload::On);
        scene.serve();
        std::fs::write(scene.lab.folder().join("witness.nft"), WITNESS).unwrap();
        let file = scene.lab.folder().join("witness.nft");
        scene.host.sh(&format!("nft -f {}", file.display())).unwrap();
        let sensor = scene.sensor();
        let mut stream = scene.connect(PORT).unwrap();
        stream.write_all(b"ehello").unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
        scene.forbid("");
        let (resets, strangers) = (count(&scene, "resets"), count(&scene, "strangers"));
        stream.write_all(b"leak").unwrap();
        assert!(stream.read(&mut [0; 8]).is_err(), "{place:?} {family:?}");
        scene.no_socket_is_left();
        assert_eq!(count(&scene, "resets"), resets + 1, "{place:?} {family:?}");
        assert_eq!(count(&scene, "strangers"), strangers, "{place:?} {family:?}");
        assert_eq!(count(&scene, "leaked"), 0, "{place:?} {family:?}");
        drop(sensor);
    }
}
