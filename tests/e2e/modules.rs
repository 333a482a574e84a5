//! What the shipped modules are made of.

use walrus::Module;

/// 150 kB, the budget of a module.
const MAX_BYTES: u64 = 150_000;

/// What Envoy calls. Each callback that is exported costs a crossing in every request.
const EXPORTS: [&str; 12] = [
    "_initialize",
    "malloc",
    "memory",
    "proxy_abi_version_0_2_1",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_delete",
    "proxy_on_log",
    "proxy_on_new_connection",
    "proxy_on_request_headers",
    "proxy_on_request_trailers",
    "proxy_on_tick",
];

/// What the filters can ask of Envoy. No outgoing calls and no shared data; the one foreign function is
/// `declare_property`, when a policy is loaded.
const IMPORTS: [&str; 15] = [
    "env.proxy_call_foreign_function",
    "env.proxy_close_stream",
    "env.proxy_define_metric",
    "env.proxy_get_buffer_bytes",
    "env.proxy_get_current_time_nanoseconds",
    "env.proxy_get_header_map_value",
    "env.proxy_get_property",
    "env.proxy_increment_metric",
    "env.proxy_log",
    "env.proxy_record_metric",
    "env.proxy_remove_header_map_value",
    "env.proxy_replace_header_map_value",
    "env.proxy_send_local_response",
    "env.proxy_set_property",
    "env.proxy_set_tick_period_milliseconds",
];

#[test]
fn modules_hold_their_exports_imports_and_size() {
    let modules = meridian::lab::modules::build().unwrap();
    for built in modules.built.iter().chain(&modules.lean) {
        let module = Module::from_file(&built.path).unwrap();
        let mut exports: Vec<&str> = module
            .exports
            .iter()
            .map(|export| export.name.as_str())
            .collect();
        exports.sort_unstable();
        let expected: Vec<&str> = EXPORTS
            .iter()
            .copied()
            .filter(|export| !built.is_lean || *export != "proxy_on_log")
            .collect();
        assert_eq!(exports, expected, "{}", built.path.display());
        let mut imports: Vec<String> = module
            .imports
            .iter()
            .map(|import| format!("{}.{}", import.module, import.name))
            .collect();
        imports.sort_unstable();
        assert_eq!(imports, IMPORTS, "{}", built.name);
        assert!(
            built.bytes <= MAX_BYTES,
            "{} has {} bytes",
            built.name,
            built.bytes
        );
        let bytes = std::fs::read(&built.path).unwrap();
        assert_eq!(bytes.len() as u64, built.bytes, "{}", built.name);
        // Of the SDK there is no dispatcher, nor one of its texts.
        let text = b"missing ContextType on root_context";
        assert!(
            !bytes.windows(text.len()).any(|window| window == text),
            "{}",
            built.name
        );
    }
}
