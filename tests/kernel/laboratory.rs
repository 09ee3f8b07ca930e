//! The laboratory itself: servers answer across a veth pair, and nothing stays behind.

use sensor_tests::{
    is_root_or_skips,
    lab::{Lab, Nginx},
};

#[test]
fn nginx_answers_across_a_veth_pair_and_nothing_stays_behind() {
    if !is_root_or_skips("laboratory") {
        return;
    }
    let lab = Lab::new().unwrap();
    let (server, client) = (lab.namespace("s").unwrap(), lab.namespace("c").unwrap());
    lab.veth((&server, "eth0", "10.1.0.1/24"), (&client, "eth0", "10.1.0.2/24")).unwrap();
    let nginx =
        Nginx::start(&lab, &server, 80, "server { listen 80; location / { return 200 '{}'; } }")
            .unwrap();
    client.sh("curl -sf http://10.1.0.1/a http://10.1.0.1/b").unwrap();
    assert_eq!(nginx.log_lines().unwrap(), ["GET /a 200 10.1.0.2", "GET /b 200 10.1.0.2"]);
    let (path, folder) = (server.path(), lab.folder().to_owned());
    drop((nginx, server, client, lab));
    assert!(!path.exists() && !folder.exists());
}
