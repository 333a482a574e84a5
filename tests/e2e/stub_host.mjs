// A host that refuses calls which Envoy never refuses. Run by stub_host.rs: `node stub_host.mjs FOLDER`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const [OK, NOT_FOUND, INTERNAL_FAILURE] = [0, 1, 10];
const [CONTINUE, PAUSE] = [0, 1];

/** Starts a module with this policy; `refused` are the calls that the host does not carry out. */
function start(name, { policy, headers = {}, properties = {}, refused = [] }) {
  const calls = [];
  let wasm;
  const bytes = (at, size) => new Uint8Array(wasm.memory.buffer, at, size);
  const text = (at, size) => new TextDecoder().decode(bytes(at, size));
  const give = (value, data, size) => {
    if (value === undefined) return NOT_FOUND;
    const encoded = typeof value === "string" ? new TextEncoder().encode(value) : value;
    const at = encoded.length === 0 ? 0 : wasm.malloc(encoded.length);
    bytes(at, encoded.length).set(encoded);
    const memory = new DataView(wasm.memory.buffer);
    memory.setUint32(data, at, true);
    memory.setUint32(size, encoded.length, true);
    return OK;
  };
  const record = (call, ...details) => {
    calls.push([call, ...details]);
    return refused.includes(call) ? INTERNAL_FAILURE : OK;
  };
  const env = {
    proxy_log: (_level, at, size) => record("log", text(at, size)),
    proxy_get_buffer_bytes: (_buffer, _start, _max, data, size) => give(policy, data, size),
    proxy_get_header_map_value: (_map, at, length, data, size) =>
      give(headers[text(at, length)], data, size),
    proxy_get_property: (at, length, data, size) =>
      give(properties[text(at, length).replaceAll("\0", ".")], data, size),
    proxy_replace_header_map_value: (_map, at, length, value, size) =>
      record("replace", text(at, length), text(value, size)),
    proxy_remove_header_map_value: (_map, at, length) => record("remove", text(at, length)),
    proxy_send_local_response: (status, details, length) =>
      record("reply", status, text(details, length)),
  };
  const module = new WebAssembly.Module(readFileSync(join(process.argv[2], `meridian_${name}.wasm`)));
  // The calls that are not under test succeed.
  const others = new Proxy(env, { get: (known, call) => known[call] ?? (() => OK) });
  wasm = new WebAssembly.Instance(module, { env: others }).exports;
  wasm._initialize();
  wasm.proxy_on_context_create(1, 0);
  wasm.proxy_on_vm_start(1, 0);
  const configured = policy === undefined ? undefined : wasm.proxy_on_configure(1, policy.length);
  const request = () => {
    calls.length = 0;
    wasm.proxy_on_context_create(2, 1);
    return { action: wasm.proxy_on_request_headers(2, 1, 1), calls };
  };
  return { configured, calls, request };
}

const headers = { ":authority": "shop.example.com" };
const allow = '{"hosts": {"ingress": {"default": "allow"}}}';
const deny = '{"hosts": {"ingress": {"default": "deny"}}}';
const tag = "x-traffic-direction";
const tests = {
  "a refused policy is not configured, and no request passes"() {
    const filter = start("ingress", { policy: '{"hosts": {"ingres": {}}}', headers });
    assert.equal(filter.configured, 0);
    assert.match(filter.calls[0][1], /^the policy is refused: hosts\.ingres: is not a field/);
    const { action, calls } = filter.request();
    assert.deepEqual([action, calls], [PAUSE, [["reply", 503, "meridian_no_policy"]]]);
  },
  "before a policy no request passes"() {
    const { action, calls } = start("ingress", { headers }).request();
    assert.deepEqual([action, calls], [PAUSE, [["reply", 503, "meridian_no_policy"]]]);
  },
  "an allowed request goes on with its tag"() {
    const { action, calls } = start("ingress", { policy: allow, headers }).request();
    assert.deepEqual([action, calls], [CONTINUE, [["replace", tag, "unknown"]]]);
  },
  "a refused request pauses"() {
    const { action, calls } = start("ingress", { policy: deny, headers }).request();
    assert.deepEqual([action, calls], [PAUSE, [["reply", 403, "meridian_deny{default}"]]]);
  },
  "a refusal that the host does not send pauses all the same"() {
    const { action } = start("ingress", { policy: deny, headers, refused: ["reply"] }).request();
    assert.equal(action, PAUSE);
  },
  "a request whose tag cannot be replaced does not pass"() {
    const { action, calls } = start("ingress", { policy: allow, headers, refused: ["replace"] }).request();
    assert.equal(action, PAUSE);
    assert.deepEqual(calls.at(-1), ["reply", 500, "meridian_tag_not_written"]);
  },
  "a request whose tag cannot be removed does not pass"() {
    const properties = { plugin_root_id: "outbound" };
    const { action, calls } = start("sidecar", { policy: "{}", headers, properties, refused: ["remove"] }).request();
    assert.equal(action, PAUSE);
    assert.deepEqual(calls.at(-1), ["reply", 500, "meridian_tag_not_written"]);
  },
  "without a root id the listener's direction chooses the section"() {
    const policy = '{"hosts": {"inbound": {"default": "allow"}, "outbound": {"default": "deny"}}}';
    for (const [direction, expected] of [[1, CONTINUE], [2, PAUSE]]) {
      const properties = { "xds.listener_direction": new Uint8Array([direction, 0, 0, 0, 0, 0, 0, 0]) };
      const { action } = start("sidecar", { policy, headers, properties }).request();
      assert.equal(action, expected, `direction ${direction}`);
    }
  },
  "a listener of no direction lets nothing pass"() {
    for (const properties of [{}, { "xds.listener_direction": new Uint8Array(8) }]) {
      const { action, calls } = start("sidecar", { policy: "{}", headers, properties }).request();
      assert.deepEqual([action, calls], [PAUSE, [["reply", 503, "meridian_no_policy"]]]);
    }
  },
};
for (const [name, test] of Object.entries(tests)) {
  try {
    test();
  } catch (error) {
    error.message = `${name}: ${error.message}`;
    throw error;
  }
}
console.log(`${Object.keys(tests).length} tests under the stub host`);
