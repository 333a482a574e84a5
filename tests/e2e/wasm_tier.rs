//! Tier 2: the policy crate as wasm32 under Node, by wasm-bindgen-test.

use std::process::Command;

use meridian::lab::paths;
use meridian_tests::announce;

/// Runs the tests of the policy crate as `cargo test --target wasm32-unknown-unknown` does, with
/// this workspace's own runner, which cannot be of another version than wasm-bindgen.
#[test]
fn every_vector_as_wasm32_under_node() {
    meridian::lab::modules::ensure_target().unwrap();
    let node = Command::new("node").arg("--version").output();
    assert!(
        node.is_ok_and(|output| output.status.success()),
        "this test needs Node.js: install it, so that `node` is on the PATH"
    );
    let output = Command::new(env!("CARGO"))
        .args(["test", "--package", "meridian-policy", "--test", "vectors"])
        .args(["--target", "wasm32-unknown-unknown", "--", "--nocapture"])
        .current_dir(paths::workspace_root().unwrap())
        .env(
            "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER",
            env!("CARGO_BIN_EXE_wasm-bindgen-test-runner"),
        )
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "no test ran:\n{text}");
    let expected = format!("{} vectors", meridian_vectors::count());
    let counted = text.lines().find(|line| line.contains("vectors as wasm32"));
    let counted = counted
        .unwrap_or_else(|| panic!("no count:\n{text}"))
        .trim();
    assert!(counted.starts_with(&expected), "{counted}, not {expected}");
    announce(counted);
}
