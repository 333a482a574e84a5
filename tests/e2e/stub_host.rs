//! The modules under a host that refuses what Envoy carries out: nothing passes then.

use std::path::Path;
use std::process::Command;

#[test]
fn nothing_passes_when_the_host_refuses() {
    meridian::modules::build().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/stub_host.mjs");
    let output = Command::new("node")
        .arg(script)
        .arg(meridian::paths::modules_dir().unwrap())
        .output()
        .expect("this test needs Node.js: install it, so that `node` is on the PATH");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
