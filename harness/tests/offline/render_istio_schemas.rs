//! The rendered objects of Istio's kinds keep to the schemas of its CRDs, as the API server holds them
//! with `--validate=strict`. The schemas are read from Go's module cache; without Istio there the test is
//! left out, and says so.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use jsonschema::Validator;
use meridian::policy::PolicyFile;
use meridian::verbs::render::istio::render;
use serde::de::Deserialize;
use serde_json::{Value, json};

use crate::render_istio::{istio_args, objects};

/// The file with all CRDs, of the newest Istio in the module cache.
fn crds() -> Option<PathBuf> {
    let output = Command::new("go")
        .args(["env", "GOMODCACHE"])
        .output()
        .ok()?;
    let cache = String::from_utf8(output.stdout).ok()?;
    let versions = std::fs::read_dir(PathBuf::from(cache.trim()).join("istio.io")).ok()?;
    let mut versions: Vec<PathBuf> = versions
        .map(|version| version.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("istio@")
        })
        .map(|path| path.join("manifests/charts/base/files/crd-all.gen.yaml"))
        .filter(|path| path.is_file())
        .collect();
    versions.sort();
    versions.pop()
}

/// Refuses fields that a schema does not name, where it does not say to keep them.
fn strict(schema: &mut Value) {
    if let Value::Object(fields) = schema {
        let keeps = fields.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true));
        if fields.contains_key("properties") && !keeps {
            fields.insert("additionalProperties".to_owned(), json!(false));
        }
        if let Some(Value::Object(properties)) = fields.get_mut("properties") {
            properties.values_mut().for_each(strict);
        }
        for inner in ["items", "additionalProperties"] {
            fields.get_mut(inner).into_iter().for_each(strict);
        }
    }
}

/// The validator of each `apiVersion` and kind.
fn validators(text: &str) -> BTreeMap<(String, String), Validator> {
    let mut validators = BTreeMap::new();
    for document in yaml_serde::Deserializer::from_str(text) {
        let crd = Value::deserialize(document).unwrap();
        let spec = &crd["spec"];
        for version in spec["versions"].as_array().into_iter().flatten() {
            let mut schema = version["schema"]["openAPIV3Schema"].clone();
            for field in ["apiVersion", "kind"] {
                schema["properties"][field] = json!({"type": "string"});
            }
            schema["properties"]["metadata"] = json!({"type": "object"});
            strict(&mut schema);
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let api = format!("{}/{}", text(&spec["group"]), text(&version["name"]));
            let validator = jsonschema::draft202012::new(&schema).unwrap();
            validators.insert((api, text(&spec["names"]["kind"])), validator);
        }
    }
    validators
}

#[test]
fn the_objects_keep_to_istio_s_schemas() {
    let Some(crds) = crds() else {
        eprintln!("Istio is not in Go's module cache: its schemas are not checked");
        return;
    };
    let validators = validators(&std::fs::read_to_string(crds).unwrap());
    let policy = PolicyFile::load(None).unwrap();
    let mut checked = BTreeMap::new();
    for form in ["envoyfilter", "trafficextension", "wasmplugin"] {
        for modules in ["oci://registry.example/meridian", "file:///etc/meridian"] {
            let options = [
                "--as",
                form,
                "--modules",
                modules,
                "--namespace",
                "shop",
                "--select-label",
                "a=b",
                "--istio-revision",
                "canary",
                "--observe",
            ];
            let rendered = render(&policy, &istio_args(&options)).unwrap();
            let files = rendered.files.into_iter().collect();
            for (path, object) in objects(&files) {
                let text = |field: &str| object[field].as_str().unwrap().to_owned();
                let key = (text("apiVersion"), text("kind"));
                if key.0.starts_with("monitoring.coreos.com/") {
                    continue;
                }
                let validator = validators
                    .get(&key)
                    .unwrap_or_else(|| panic!("{key:?} is no kind"));
                let errors: Vec<String> = validator
                    .iter_errors(&object)
                    .map(|error| format!("{}: {error}", error.instance_path()))
                    .collect();
                assert_eq!(errors, [""; 0], "{form} {path}");
                let mut mistaken = object.clone();
                mistaken["spec"]["mistaken"] = json!(1);
                assert!(!validator.is_valid(&mistaken), "{path}: nothing is checked");
                *checked.entry(key.1).or_insert(0) += 1;
            }
        }
    }
    let kinds: Vec<&str> = checked.keys().map(String::as_str).collect();
    assert_eq!(
        kinds,
        ["EnvoyFilter", "Telemetry", "TrafficExtension", "WasmPlugin"]
    );
}
