//! The keywords of JSON Schema that the policy's schema is made of.

use serde_json::{Map, Value, json};

/// A mapping of these fields, each with its description and its schema. A field without a
/// description takes any value.
pub(super) fn object(
    fields: &[&str],
    required: &[&str],
    describe: impl Fn(&str) -> Option<(&'static str, Value)>,
) -> Value {
    let properties: Map<String, Value> = fields
        .iter()
        .map(|field| {
            let mut property = json!({});
            if let Some((description, schema)) = describe(field) {
                property["description"] = json!(description);
                merge(&mut property, schema);
            }
            ((*field).to_owned(), property)
        })
        .collect();
    let mut object = json!({"type": "object"});
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object["additionalProperties"] = json!(false);
    object["properties"] = json!(properties);
    object
}

pub(super) fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

/// The same or `null`: to the reader a field that is null is one that is not there.
pub(super) fn optional(mut schema: Value) -> Value {
    let Some(keys) = schema.as_object_mut() else {
        return schema;
    };
    if let Some(Value::Array(words)) = keys.get_mut("enum") {
        words.push(Value::Null);
    } else if let Some(of_type @ Value::String(_)) = keys.get_mut("type") {
        *of_type = json!([of_type, "null"]);
    } else {
        return json!({"anyOf": [schema, {"type": "null"}]});
    }
    schema
}

pub(super) fn reference(term: &str) -> Value {
    json!({"$ref": format!("#/$defs/{term}")})
}

pub(super) fn list(of: Value) -> Value {
    json!({"type": "array", "items": of})
}

/// A list that limits a rule: one that says nothing is an error.
pub(super) fn condition(of: Value) -> Value {
    json!({"type": "array", "minItems": 1, "items": of})
}

/// With the value that the reader takes where there is none.
pub(super) fn or(mut schema: Value, default: Value) -> Value {
    schema["default"] = default;
    schema
}
