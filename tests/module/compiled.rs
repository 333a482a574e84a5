//! Modules as Cargo leaves them, with the SDK's callbacks: they let nothing pass.

use std::fs;

use meridian::lab::modules::TARGET;
use meridian::lab::paths;

use crate::host::{Host, MODULES};

/// The modules that Cargo compiled.
fn compiled() -> impl Iterator<Item = Vec<u8>> {
    let folder = paths::target_dir().unwrap().join(TARGET).join("wasm");
    MODULES
        .built
        .iter()
        .map(move |module| fs::read(folder.join(format!("meridian_{}.wasm", module.name))).unwrap())
}

#[test]
fn no_host_loads_what_meridian_build_did_not_make() {
    for wasm in compiled() {
        let Err(error) = Host::load("ingress", &wasm, false) else {
            panic!("it was loaded");
        };
        let message = error.to_string();
        let expected = "(this module is not made by `meridian build`)";
        assert!(message.contains(expected), "{message}");
    }
}

/// Where a host does not mind an import that it has not.
#[test]
fn nothing_passes_the_sdk_s_own_callbacks() {
    for wasm in compiled() {
        let mut host = Host::load("ingress", &wasm, true).unwrap();
        assert!(!host.begins());
        let calls = format!("{:?}", host.world().calls);
        assert!(
            calls.contains("missing ContextType on root_context"),
            "{calls}"
        );
    }
}
