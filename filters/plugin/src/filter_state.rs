//! A decision in Envoy's filter state, for access logs, traces and whatever else reads it.
//!
//! It is one object, `wasm.meridian`, a `google.protobuf.Struct`, so that it costs one host call, and
//! `%CEL(filter_state['wasm.meridian'].rule)%` takes a field out.

use meridian_policy::{Action, Authority, ComponentType, Direction, DirectionEvidence, Vantage};

use crate::protobuf::{field, head, size};

/// The object's name, less Envoy's `wasm.`.
pub(crate) const NAME: &str = "meridian";

/// What is told of a decision.
pub(crate) struct Entry<'e> {
    pub(crate) decision: Action,
    pub(crate) rule: &'e str,
    pub(crate) direction: Direction,
    pub(crate) evidence: DirectionEvidence,
    /// `None` for a connection.
    pub(crate) component: Option<ComponentType>,
    /// `None` where there is no valid host.
    pub(crate) authority: Option<&'e Authority>,
    /// `deny{RULE}`
    pub(crate) dry_run: Option<String>,
}

/// The type of the object.
pub(crate) const TYPE_URL: &str = "type.googleapis.com/google.protobuf.Struct";

impl Entry<'_> {
    /// The Struct in protobuf's wire format.
    pub(crate) fn encode(&self, vantage: Vantage) -> Vec<u8> {
        let mut object = Vec::with_capacity(256);
        let mut text = |key: &str, text: Option<&[u8]>| {
            if let Some(text) = text {
                entry(&mut object, key.as_bytes(), text);
            }
        };
        let host = self.authority.map(|authority| authority.host.to_bytes());
        let component = self.component.map(ComponentType::as_str);
        // Keys with the head of their field, which is the same for each.
        text("\n\x08reporter", Some(vantage.as_str().as_bytes()));
        text("\n\x09direction", Some(self.direction.as_str().as_bytes()));
        text("\n\x08evidence", Some(self.evidence.as_str().as_bytes()));
        text("\n\x0ecomponent_type", component.map(str::as_bytes));
        text("\n\x08decision", Some(self.decision.as_str().as_bytes()));
        text("\n\x04rule", Some(self.rule.as_bytes()));
        text("\n\x07dry_run", self.dry_run.as_deref().map(str::as_bytes));
        text("\n\x04host", host.as_deref());
        let port = self.authority.and_then(|authority| authority.port);
        let port = port.map(|port| port.to_string());
        text("\n\x04port", port.as_deref().map(str::as_bytes));
        object
    }
}

/// An entry of `map<string, Value> fields = 1` whose value is `string_value = 3`; `key` is the field 1 of
/// the entry. Lengths stand before what they are of, so they are counted first, and nothing is written
/// twice.
fn entry(object: &mut Vec<u8>, key: &[u8], text: &[u8]) {
    let value = size(text.len());
    head(object, 1, key.len() + size(value));
    object.extend_from_slice(key);
    head(object, 2, value);
    field(object, 3, text);
}
