//! What one filter needs of a policy.
//!
//! A mesh has one policy, but a sidecar never asks a gateway's rules, and no gateway those of another.
//! Objects of Kubernetes hold about 1.5 MB, so each filter is given its slice alone.

use meridian_policy::{Subject, Vantage};
use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};
use serde_json::Value;

use super::PolicyFile;
use super::file::revision_text;

impl PolicyFile {
    /// The policy as the filter at `vantage` gets it, in compact JSON: without what decides nothing
    /// there, without the rules of gateways other than `gateway`, and with the revision of the whole.
    ///
    /// It decides as the whole policy does at that gateway. Where rules are left out, those behind
    /// them have other indexes.
    pub fn slice(&self, vantage: Vantage, subject: Subject, gateway: Option<&str>) -> String {
        self.slice_of(&[vantage], subject, gateway)
    }

    /// The same for a filter at any of these places.
    pub fn slice_of(
        &self,
        vantages: &[Vantage],
        subject: Subject,
        gateway: Option<&str>,
    ) -> String {
        let reader = Reader {
            vantages,
            subject,
            gateway,
        };
        let mut parts = vec![("revision", Part::Text(revision_text(self.revision())))];
        parts.extend(reader.fields("", &self.json));
        // Texts and numbers cannot fail to be written to memory.
        serde_json::to_string(&Part::Mapping(parts)).unwrap_or_default()
    }
}

/// The filter whose slice it is.
#[derive(Clone, Copy)]
struct Reader<'g> {
    vantages: &'g [Vantage],
    subject: Subject,
    gateway: Option<&'g str>,
}

/// How much of a field a filter reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reads {
    Nothing,
    All,
    Parts,
}

impl From<bool> for Reads {
    fn from(is_read: bool) -> Self {
        match is_read {
            true => Self::All,
            false => Self::Nothing,
        }
    }
}

impl Reader<'_> {
    /// How much is read of the field at `path`; `None` for one that is not known here.
    fn reads(self, path: &str) -> Option<Reads> {
        let reads = self.vantages.iter().map(|at| self.reads_at(*at, path));
        // `None` is less than any.
        reads.max()?
    }

    fn reads_at(self, at: Vantage, path: &str) -> Option<Reads> {
        let is_request = self.subject == Subject::Request;
        let is_ingress = at == Vantage::Ingress;
        let is_inbound = at == Vantage::Inbound;
        let is_egress = at == Vantage::Egress;
        // Names are told to be inside or outside where something leaves.
        let leaves = is_egress || at == Vantage::Outbound;
        if path == "hosts.invalid" {
            return Some(Reads::All);
        }
        if let Some(section) = path.strip_prefix("hosts.") {
            let (vantage, field) = section.split_once('.').unwrap_or((section, ""));
            return match field {
                _ if Vantage::from_word(vantage)? != at => Some(Reads::Nothing),
                "" | "rules" | "rules[]" => Some(Reads::Parts),
                // The rules that are left are those of this gateway.
                "rules[].gateways" => Some(Reads::Nothing),
                _ => Some(Reads::All),
            };
        }
        let is_read = match path {
            "mesh" | "components" | "components.system" | "hosts" | "tags" => {
                return Some(Reads::Parts);
            }
            "mesh.gateways"
            | "mesh.gateways.ingress"
            | "mesh.gateways.ingress[]"
            | "mesh.gateways.egress"
            | "mesh.gateways.egress[]" => {
                let is_read = match path.contains("egress") {
                    true => leaves,
                    false => !is_ingress,
                };
                return Some(if is_read {
                    Reads::Parts
                } else {
                    Reads::Nothing
                });
            }
            "revision" => false,
            "mesh.serviceDomain" | "mesh.hosts" | "mesh.namespaces" => leaves,
            "mesh.trustDomains" => is_ingress || is_inbound || (is_egress && is_request),
            "mesh.cidrs" => true,
            // Where something leaves, the namespaces of gateways are known to be inside.
            "mesh.gateways.ingress[].principal" => !is_ingress,
            "mesh.gateways.ingress[].filtered" => is_inbound && is_request,
            "mesh.gateways.egress[].principal" | "mesh.gateways.egress[].hosts" => leaves,
            "mesh.gateways.ingress[].name"
            | "mesh.gateways.ingress[].namespace"
            | "mesh.gateways.ingress[].labels"
            | "mesh.gateways.egress[].name"
            | "mesh.gateways.egress[].namespace"
            | "mesh.gateways.egress[].labels" => false,
            "components.system.namespaces" => leaves || (is_inbound && is_request),
            "components.system.hosts" | "sni" => is_ingress && is_request,
            "deny" | "metrics" => is_request,
            "tags.directionHeader" | "tags.componentHeader" | "tags.evidenceHeader" => is_request,
            "tags.filterState" => true,
            _ => return None,
        };
        Some(is_read.into())
    }

    /// The parts of the mapping at `path` that are read, by their fields.
    fn fields<'v>(self, path: &str, value: &'v Value) -> Vec<(&'v str, Part<'v>)> {
        let fields = value.as_object().into_iter().flatten();
        let parts = fields.filter_map(|(field, value)| {
            let part = match path {
                "" => self.part(field, value),
                path => self.part(&format!("{path}.{field}"), value),
            };
            Some((field.as_str(), part?))
        });
        parts.collect()
    }

    /// What is read of the value at `path`; `None` if nothing is.
    fn part<'v>(self, path: &str, value: &'v Value) -> Option<Part<'v>> {
        // A field that is not known here may well be read.
        match (self.reads(path).unwrap_or(Reads::All), value) {
            (Reads::Nothing, _) => None,
            (Reads::Parts, Value::Object(_)) => {
                let parts = self.fields(path, value);
                (!parts.is_empty()).then_some(Part::Mapping(parts))
            }
            (Reads::Parts, Value::Array(list)) => {
                let here = list.iter().filter(|element| self.is_here(element));
                let path = format!("{path}[]");
                let parts = here.filter_map(|element| self.part(&path, element));
                Some(Part::List(parts.collect()))
            }
            (Reads::All | Reads::Parts, value) => Some(Part::All(value)),
        }
    }

    /// False for a rule that is limited to other gateways.
    fn is_here(self, rule: &Value) -> bool {
        let Value::Array(names) = &rule["gateways"] else {
            return true;
        };
        self.gateway
            .is_some_and(|gateway| names.iter().any(|name| name == gateway))
    }
}

/// A part of a document. Hosts are borrowed: there may be a million.
enum Part<'v> {
    All(&'v Value),
    Text(String),
    Mapping(Vec<(&'v str, Part<'v>)>),
    List(Vec<Part<'v>>),
}

impl Serialize for Part<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All(value) => value.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Mapping(parts) => {
                let mut map = serializer.serialize_map(Some(parts.len()))?;
                for (field, part) in parts {
                    map.serialize_entry(field, part)?;
                }
                map.end()
            }
            Self::List(parts) => {
                let mut list = serializer.serialize_seq(Some(parts.len()))?;
                for part in parts {
                    list.serialize_element(part)?;
                }
                list.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use meridian_policy::fields;

    use super::*;

    /// A new field is to be thought about here: kept everywhere, it costs every proxy.
    #[test]
    fn every_field_of_a_document_is_known() {
        let of_rules = [
            "rules",
            "default",
            "mode",
            "rules[].gateways",
            "rules[].hosts",
        ];
        let groups: [(&str, &[&str]); 10] = [
            ("", fields::POLICY),
            ("mesh.", fields::MESH),
            ("mesh.gateways.", fields::GATEWAYS),
            ("mesh.gateways.ingress[].", fields::INGRESS_GATEWAY),
            ("mesh.gateways.egress[].", fields::EGRESS_GATEWAY),
            ("components.", fields::COMPONENTS),
            ("components.system.", fields::SYSTEM),
            ("hosts.", fields::HOSTS),
            ("hosts.ingress.", &of_rules),
            ("tags.", fields::TAGS),
        ];
        for vantage in Vantage::ALL {
            for subject in [Subject::Request, Subject::Connection] {
                let reader = Reader {
                    vantages: &[*vantage],
                    subject,
                    gateway: None,
                };
                for (group, names) in groups {
                    for name in names {
                        let path = format!("{group}{name}");
                        assert_ne!(reader.reads(&path), None, "{path}");
                    }
                }
            }
        }
    }

    const POLICY: &str = "
mesh:
  cidrs: [10.0.0.0/8]
  hosts: ['*.mesh.internal']
  gateways:
    ingress: [{principal: cluster.local/ns/in/sa/in, filtered: true}]
    egress: [{principal: cluster.local/ns/out/sa/out, hosts: [out.out]}]
components: {system: {namespaces: [sys], hosts: [console.example]}}
hosts:
  ingress: {default: deny, rules: [{name: a, hosts: [a.example], action: allow, ports: [443]}]}
  egress: {rules: [{name: b, hosts: [b.example], action: allow}]}
sni: {mismatch: deny}
deny: {status: 404}
tags: {componentHeader: x-component, filterState: true}
metrics: {responses: true}
";

    #[test]
    fn a_filter_gets_what_it_reads_alone() {
        let file = PolicyFile::parse(POLICY.as_bytes()).unwrap();
        let revision = revision_text(file.revision());
        for (vantage, subject, expected) in [
            (
                Vantage::Ingress,
                Subject::Request,
                r#""mesh":{"cidrs":["10.0.0.0/8"]},"components":{"system":{"hosts":["console.example"]}},"hosts":{"ingress":{"default":"deny","rules":[{"name":"a","hosts":["a.example"],"action":"allow","ports":[443]}]}},"sni":{"mismatch":"deny"},"deny":{"status":404},"tags":{"componentHeader":"x-component","filterState":true},"metrics":{"responses":true}}"#,
            ),
            (
                Vantage::Ingress,
                Subject::Connection,
                r#""mesh":{"cidrs":["10.0.0.0/8"]},"hosts":{"ingress":{"default":"deny","rules":[{"name":"a","hosts":["a.example"],"action":"allow","ports":[443]}]}},"tags":{"filterState":true}}"#,
            ),
            (
                Vantage::Egress,
                Subject::Connection,
                r#""mesh":{"cidrs":["10.0.0.0/8"],"hosts":["*.mesh.internal"],"gateways":{"ingress":[{"principal":"cluster.local/ns/in/sa/in"}],"egress":[{"principal":"cluster.local/ns/out/sa/out","hosts":["out.out"]}]}},"components":{"system":{"namespaces":["sys"]}},"hosts":{"egress":{"rules":[{"name":"b","hosts":["b.example"],"action":"allow"}]}},"tags":{"filterState":true}}"#,
            ),
            (
                Vantage::Inbound,
                Subject::Request,
                r#""mesh":{"cidrs":["10.0.0.0/8"],"gateways":{"ingress":[{"principal":"cluster.local/ns/in/sa/in","filtered":true}]}},"components":{"system":{"namespaces":["sys"]}},"deny":{"status":404},"tags":{"componentHeader":"x-component","filterState":true},"metrics":{"responses":true}}"#,
            ),
        ] {
            let slice = file.slice(vantage, subject, None);
            let expected = format!("{{\"revision\":\"{revision}\",{expected}");
            assert_eq!(slice, expected, "{vantage} {subject:?}");
        }
    }

    #[test]
    fn a_gateway_gets_its_own_rules() {
        let gateways = |names: &str| {
            format!(
                "{{principal: cluster.local/ns/in/sa/{names}, name: {names}, labels: {{a: b}}}}"
            )
        };
        let rule = |name: &str, gateways: &str| {
            format!("{{name: {name}, hosts: [{name}.example], action: allow{gateways}}}")
        };
        let document = format!(
            "mesh: {{gateways: {{ingress: [{}, {}]}}}}\nhosts: {{ingress: {{rules: [{}, {}, {}]}}}}",
            gateways("public"),
            gateways("internal"),
            rule("all", ""),
            rule("shop", ", gateways: [public]"),
            rule("both", ", gateways: [internal, public]"),
        );
        let file = PolicyFile::parse(document.as_bytes()).unwrap();
        for (gateway, expected) in [
            (Some("public"), vec!["all", "shop", "both"]),
            (Some("internal"), vec!["all", "both"]),
            (None, vec!["all"]),
        ] {
            let slice = file.slice(Vantage::Ingress, Subject::Request, gateway);
            let policy = meridian_policy::Policy::from_json(slice).unwrap();
            let rules = &policy.section(Vantage::Ingress).rules;
            let names: Vec<&str> = rules.iter().map(|rule| &*rule.name).collect();
            assert_eq!(names, expected, "{gateway:?}");
        }
    }

    #[test]
    fn a_host_costs_at_most_forty_bytes_for_each_filter() {
        let hosts: Vec<String> = (0..3_000)
            .map(|index| format!("tenant-{index:04}.example.com"))
            .collect();
        let document = |hosts: &[String]| {
            let rule = serde_json::json!({"name": "a", "action": "allow", "hosts": hosts});
            serde_json::json!({"hosts": {"ingress": {"rules": [rule]}}}).to_string()
        };
        let size = |hosts: &[String], vantage| {
            let file = PolicyFile::parse(document(hosts).as_bytes()).unwrap();
            let slice = file.slice(vantage, Subject::Request, None);
            // As it stands in an EnvoyFilter: a text of JSON within JSON.
            Value::from(slice).to_string().len()
        };
        let cost = size(&hosts, Vantage::Ingress) - size(&hosts[..1], Vantage::Ingress);
        assert!(cost <= 40 * hosts.len(), "{cost} bytes");
        let elsewhere = size(&hosts, Vantage::Inbound) - size(&hosts[..1], Vantage::Inbound);
        assert_eq!(elsewhere, 0);
    }
}
