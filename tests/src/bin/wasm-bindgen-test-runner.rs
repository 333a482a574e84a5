//! Runs `#[wasm_bindgen_test]`s under Node, as `cargo test --target wasm32-unknown-unknown` calls it.
//!
//! It is the runner of the crate wasm-bindgen-cli behind a `main` of this workspace, so that the lock
//! file pins it to the version of wasm-bindgen it must match and nothing has to be installed first.

fn main() -> anyhow::Result<()> {
    wasm_bindgen_cli::wasm_bindgen_test_runner::run_cli_with_args(std::env::args_os())?;
    Ok(())
}
