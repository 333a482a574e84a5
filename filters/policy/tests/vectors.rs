//! Tiers 1 and 2: the vectors through the policy crate, natively and as wasm32 under Node.

#[cfg(not(target_arch = "wasm32"))]
#[test]
fn every_vector_natively() {
    use std::io::Write;
    let count = meridian_vectors::check_all();
    // `eprintln!` would be captured by the test runner.
    writeln!(std::io::stderr(), "{count} vectors natively").unwrap();
}

#[cfg(target_arch = "wasm32")]
#[wasm_bindgen_test::wasm_bindgen_test]
fn every_vector_under_node() {
    wasm_bindgen_test::console_log!(
        "{} vectors as wasm32 under Node",
        meridian_vectors::check_all()
    );
}
