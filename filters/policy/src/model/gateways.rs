//! Gateways by name: how they are described, and which rules are limited to some of them.
//!
//! A filter is given the rules of its own gateway and needs none of this, so it is a second reading,
//! of the command line alone. What is not of the form that is expected here, the first has reported.

use crate::document::fields::MAX_GATEWAY_NAME;
use crate::document::reader::{Errors, Fields, Node, Path};
use crate::model::names::{is_label_key, is_label_value, is_namespace, is_of_label};
use crate::{Document, Gateway, Mesh, Section, Vantage};

/// The names of the gateways so far, and the vantage point of each.
type Names = Vec<(Box<str>, Vantage)>;

/// Reads what the first reading left out into the mesh and the sections, in the order of
/// [`Vantage::ALL`], that came of it; into nothing where it found errors.
pub(crate) fn read(
    errors: &mut Errors,
    root: Node<'_>,
    mesh: Option<&mut Mesh>,
    sections: &mut [Section],
) {
    let mut names = Names::new();
    let Some(fields) = root.mapping() else { return };
    if let Some(node) = fields.get("mesh")
        && let Some(fields) = node.mapping()
        && let Some(node) = fields.get("gateways")
        && let Some(fields) = node.mapping()
    {
        let (ingress, egress) = match mesh {
            Some(mesh) => (
                mesh.ingress_gateways.as_mut_slice(),
                mesh.egress_gateways.as_mut_slice(),
            ),
            None => Default::default(),
        };
        for (vantage, gateways) in [(Vantage::Ingress, ingress), (Vantage::Egress, egress)] {
            each_mapping(fields, vantage.as_str(), |index, fields| {
                let gateway = gateways.get_mut(index);
                read_gateway(errors, fields, vantage, &mut names, gateway);
            });
        }
    }
    if let Some(node) = fields.get("hosts")
        && let Some(fields) = node.mapping()
    {
        for vantage in Vantage::ALL {
            let Some(node) = fields.get(vantage.as_str()) else {
                continue;
            };
            let Some(fields) = node.mapping() else {
                continue;
            };
            each_mapping(fields, "rules", |index, fields| {
                let gateways = read_rule(errors, fields, *vantage, &names);
                let section = sections.get_mut(vantage.index());
                if let Some(rule) = section.and_then(|section| section.rules.get_mut(index)) {
                    rule.gateways = gateways;
                }
            });
        }
    }
}

/// Calls `each` with the mappings of the list of this field, and their indexes.
fn each_mapping(fields: Fields<'_>, list: &'static str, mut each: impl FnMut(usize, Fields<'_>)) {
    let Some(node) = fields.get(list) else { return };
    let Document::List(documents) = node.document else {
        return;
    };
    for (index, document) in documents.iter().enumerate() {
        let node = Node {
            document,
            path: Path::Index(&node.path, index),
        };
        if let Some(fields) = node.mapping() {
            each(index, fields);
        }
    }
}

fn read_gateway(
    errors: &mut Errors,
    fields: Fields<'_>,
    vantage: Vantage,
    names: &mut Names,
    gateway: Option<&mut Gateway>,
) {
    let name = fields
        .get("name")
        .and_then(|node| read_name(errors, node, names));
    if let Some(name) = &name {
        names.push((name.clone(), vantage));
    }
    let namespace = fields.get("namespace").and_then(|node| {
        let text = node.string(errors)?;
        if !is_namespace(text) {
            let hint = "write the namespace of the gateway's pods: a-z, 0-9 and -, at most 63";
            errors.add_quoted(&node.path, text, "is not a namespace", hint);
        }
        Some(Box::from(text))
    });
    let labels = fields.get("labels");
    let labels = labels.map(|node| read_labels(errors, node));
    if let Some(gateway) = gateway {
        gateway.name = name;
        gateway.namespace = namespace;
        gateway.labels = labels.unwrap_or_default();
    }
}

fn read_name(errors: &mut Errors, node: Node<'_>, names: &Names) -> Option<Box<str>> {
    let text = node.string(errors)?;
    let is_name = (1..=MAX_GATEWAY_NAME).contains(&text.len())
        && text.bytes().all(is_of_label)
        // Objects of Kubernetes are named after it.
        && !text.starts_with('-')
        && !text.ends_with('-');
    if !is_name {
        let hint = "write a name of a-z, 0-9 and -, at most 63, the first and last no -";
        errors.add_quoted(&node.path, text, "is not the name of a gateway", hint);
        return None;
    }
    if names.iter().any(|(known, _)| **known == *text) {
        let hint = "give each gateway its own name, also an ingress and an egress gateway";
        errors.add_quoted(
            &node.path,
            text,
            "is the name of an earlier gateway too",
            hint,
        );
        return None;
    }
    Some(text.into())
}

fn read_labels(errors: &mut Errors, node: Node<'_>) -> Box<[(Box<str>, Box<str>)]> {
    // Without one it would be every pod of the namespace.
    let hint = "write the labels of the gateway's pods, such as {istio: ingress}";
    let Document::Mapping(entries) = node.document else {
        let message = format!("is {}", node.document.kind());
        errors.add(&node.path, &message, hint);
        return Box::default();
    };
    if entries.is_empty() {
        errors.add(&node.path, "is empty", hint);
    }
    let mut labels: Vec<(Box<str>, Box<str>)> = Vec::new();
    for (key, document) in entries {
        let node = Node {
            document,
            path: Path::Field(&node.path, key),
        };
        let Some(value) = node.string(errors) else {
            continue;
        };
        if !is_label_key(key) {
            errors.add_quoted(
                &node.path,
                key,
                "is not the key of a label",
                "write it as Kubernetes has it, such as istio or app.kubernetes.io/name",
            );
        }
        if !is_label_value(value) {
            errors.add_quoted(
                &node.path,
                value,
                "is not the value of a label",
                "write at most 63 letters, digits, -, _ and ., the first and last no - _ or .",
            );
        }
        if labels.iter().any(|(known, _)| **known == **key) {
            errors.add(&node.path, "is given twice", "keep one of the two");
        }
        labels.push((key.as_str().into(), value.into()));
    }
    labels.into()
}

/// The gateways that a rule is limited to.
fn read_rule(
    errors: &mut Errors,
    fields: Fields<'_>,
    vantage: Vantage,
    names: &Names,
) -> Box<[Box<str>]> {
    let Some(node) = fields.condition(errors, "gateways") else {
        return Box::default();
    };
    if !vantage.is_gateway() {
        errors.add(
            &node.path,
            "is of gateways, and a sidecar is at none",
            "leave it out, or write the rule in hosts.ingress or hosts.egress",
        );
        return Box::default();
    }
    let mut gateways: Vec<Box<str>> = Vec::new();
    node.each_string(errors, |errors, path, text| {
        match names.iter().find(|(known, _)| **known == *text) {
            Some((_, kind)) if *kind == vantage => gateways.push(text.into()),
            Some((_, kind)) => {
                let message = format!("is an {kind} gateway, where no rule of hosts.{vantage} is");
                errors.add_quoted(path, text, &message, &known_names(vantage, names));
            }
            None => {
                let message = format!("is not the name of an {vantage} gateway");
                errors.add_quoted(path, text, &message, &known_names(vantage, names));
            }
        }
    });
    gateways.into()
}

/// What can be written in the place of a name that no gateway of this kind has.
fn known_names(vantage: Vantage, names: &Names) -> String {
    let known = names.iter().filter(|(_, kind)| *kind == vantage);
    let known: Vec<&str> = known.map(|(name, _)| &**name).collect();
    match known.is_empty() {
        true => format!("give a gateway in mesh.gateways.{vantage} this `name` first"),
        false => format!("the {vantage} gateways are {}", known.join(", ")),
    }
}
