//! A policy as its author wrote it: the texts of its hosts, which the compiled policy no longer has.
//!
//! This is a view of the document, and patterns are parsed where they are asked for. A policy may
//! have a million hosts: most verbs need the text of none and pay nothing, `explain` needs those of
//! one rule, and `check` goes through them without keeping a second million beside the document.

use meridian_policy::{Pattern, Rule, Vantage};
use serde_json::Value;

use super::PolicyFile;

/// The view, see [`PolicyFile::written`].
#[derive(Debug, Clone, Copy)]
pub struct Written<'f> {
    file: &'f PolicyFile,
}

impl PolicyFile {
    /// The policy as its author wrote it, but for names in Unicode, which are A-labels.
    pub fn written(&self) -> Written<'_> {
        Written { file: self }
    }
}

impl<'f> Written<'f> {
    /// The rules of a vantage point, in the order of [`meridian_policy::Section::rules`].
    pub fn rules(self, vantage: Vantage) -> impl ExactSizeIterator<Item = WrittenRule<'f>> {
        let compiled = &self.file.policy.section(vantage).rules;
        let written = self.rule_values(vantage);
        let rules = compiled.iter().zip(written);
        rules.map(|(compiled, written)| WrittenRule { compiled, written })
    }

    /// One of [`Self::rules`], by its index; `None` behind the last.
    pub fn rule(self, vantage: Vantage, index: usize) -> Option<WrittenRule<'f>> {
        Some(WrittenRule {
            compiled: self.file.policy.section(vantage).rules.get(index)?,
            written: self.rule_values(vantage).get(index)?,
        })
    }

    /// The hosts of `mesh.hosts`.
    pub fn mesh_hosts(self) -> WrittenHosts<'f> {
        WrittenHosts::of(&self.file.json["mesh"]["hosts"])
    }

    /// The namespaces of `mesh.namespaces`.
    pub fn mesh_namespaces(self) -> impl Iterator<Item = &'f str> {
        let namespaces = list(&self.file.json["mesh"]["namespaces"]);
        namespaces.iter().filter_map(Value::as_str)
    }

    /// The hosts of the egress gateway of this index; none if it is named after its account.
    pub fn egress_gateway_hosts(self, index: usize) -> WrittenHosts<'f> {
        WrittenHosts::of(&self.file.json["mesh"]["gateways"]["egress"][index]["hosts"])
    }

    fn rule_values(self, vantage: Vantage) -> &'f [Value] {
        list(&self.file.json["hosts"][vantage.as_str()]["rules"])
    }
}

/// A rule, compiled and as it is written.
#[derive(Debug, Clone, Copy)]
pub struct WrittenRule<'f> {
    /// What the filters have of it: all but its hosts.
    pub compiled: &'f Rule,
    written: &'f Value,
}

impl<'f> WrittenRule<'f> {
    /// The hosts that it is about.
    pub fn hosts(self) -> WrittenHosts<'f> {
        WrittenHosts::of(&self.written["hosts"])
    }

    /// The hosts that it leaves out.
    pub fn not_hosts(self) -> WrittenHosts<'f> {
        WrittenHosts::of(&self.written["notHosts"])
    }

    /// Each further condition as it is written: its field, such as `ports`, or `cidrs` for
    /// `from.cidrs`, and its value. `notHosts` is among them.
    pub fn conditions(self) -> impl Iterator<Item = (&'f str, &'f Value)> {
        const OTHERS: [&str; 5] = ["name", "hosts", "action", "dryRun", "from"];
        let own = fields(self.written).filter(|(field, _)| !OTHERS.contains(field));
        own.chain(fields(&self.written["from"]))
    }
}

/// A list of hosts.
#[derive(Debug, Clone, Copy, Default)]
pub struct WrittenHosts<'f>(&'f [Value]);

/// A host of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenHost<'f> {
    /// Where it stands in the list.
    pub index: usize,
    /// Its text: not canonical, but for names in Unicode, which are A-labels.
    pub text: &'f str,
    /// What it matches.
    pub pattern: Pattern,
}

impl<'f> WrittenHosts<'f> {
    fn of(value: &'f Value) -> Self {
        Self(list(value))
    }

    /// How many there are.
    pub fn len(self) -> usize {
        self.0.len()
    }

    /// True if the list is empty, or not written.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Their texts alone, which takes no parsing.
    pub fn texts(self) -> impl Iterator<Item = &'f str> {
        self.0.iter().filter_map(Value::as_str)
    }

    /// Each of them, parsed when it is reached.
    pub fn parsed(self) -> impl Iterator<Item = WrittenHost<'f>> {
        // None is left out: a policy with a host that is no pattern is no `PolicyFile`.
        (0..self.len()).filter_map(move |index| self.get(index))
    }

    /// The host of this index; `None` behind the last.
    pub fn get(self, index: usize) -> Option<WrittenHost<'f>> {
        let text = self.0.get(index)?.as_str()?;
        let pattern = Pattern::parse(text).ok()?;
        Some(WrittenHost {
            index,
            text,
            pattern,
        })
    }
}

/// The elements of a list; none of what is not one.
fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The fields of a mapping; none of what is not one.
fn fields(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let fields = value.as_object().into_iter().flatten();
    fields.map(|(field, value)| (field.as_str(), value))
}

#[cfg(test)]
mod tests {
    use meridian_policy::HostPattern;

    use super::*;

    const POLICY: &str = "
mesh:
  hosts: ['*.Mesh.internal', 10.0.0.0/8]
  gateways:
    egress:
    - {principal: cluster.local/ns/edge/sa/exit}
    - {principal: cluster.local/ns/edge/sa/other, hosts: [Exit.edge]}
hosts:
  ingress:
    rules:
    - {name: all, action: allow, hosts: ['*']}
    - name: some
      action: deny
      hosts: [Shop.example.com.:443, 10.1.2.3]
      notHosts: ['*.bücher.example:80']
      ports: [443]
      from: {cidrs: [10.0.0.0/8], notCidrs: [10.1.0.0/16]}
";

    fn file() -> PolicyFile {
        PolicyFile::parse(POLICY.as_bytes()).unwrap()
    }

    #[test]
    fn hosts_have_the_text_of_the_document_and_its_pattern() {
        let file = file();
        let rules: Vec<WrittenRule<'_>> = file.written().rules(Vantage::Ingress).collect();
        let names: Vec<&str> = rules.iter().map(|rule| &*rule.compiled.name).collect();
        assert_eq!(names, ["all", "some"]);

        let hosts = rules[1].hosts();
        let texts = ["Shop.example.com.:443", "10.1.2.3"];
        assert_eq!(hosts.texts().collect::<Vec<_>>(), texts);
        let expected: Vec<WrittenHost<'_>> = texts
            .iter()
            .enumerate()
            .map(|(index, text)| WrittenHost {
                index,
                text,
                pattern: Pattern::parse(text).unwrap(),
            })
            .collect();
        assert_eq!(hosts.parsed().collect::<Vec<_>>(), expected);
        assert_eq!(hosts.get(1).as_ref(), expected.last());
        assert_eq!((hosts.len(), hosts.get(2)), (2, None));

        let excluded = rules[1].not_hosts().get(0).unwrap();
        assert_eq!(excluded.text, "*.xn--bcher-kva.example:80");
        assert_eq!(excluded.pattern.port, Some(80));
        assert!(rules[0].not_hosts().is_empty());
    }

    #[test]
    fn a_rule_is_found_by_its_vantage_and_index() {
        let file = file();
        let name = |vantage, index| {
            let rule = file.written().rule(vantage, index);
            rule.map(|rule| &*rule.compiled.name)
        };
        assert_eq!(name(Vantage::Ingress, 1), Some("some"));
        assert_eq!(name(Vantage::Ingress, 2), None);
        assert_eq!(name(Vantage::Egress, 0), None);
        assert_eq!(file.written().rules(Vantage::Egress).len(), 0);
    }

    #[test]
    fn conditions_are_what_the_rule_says_beside_its_hosts() {
        let file = file();
        let fields = |index| {
            let rule = file.written().rule(Vantage::Ingress, index).unwrap();
            let mut fields: Vec<&str> = rule.conditions().map(|(field, _)| field).collect();
            fields.sort_unstable();
            fields
        };
        assert!(fields(0).is_empty());
        assert_eq!(fields(1), ["cidrs", "notCidrs", "notHosts", "ports"]);
    }

    #[test]
    fn the_mesh_and_its_egress_gateways_have_hosts_too() {
        let file = file();
        let written = file.written();
        let patterns: Vec<HostPattern> = written
            .mesh_hosts()
            .parsed()
            .map(|host| host.pattern.host)
            .collect();
        let canonical: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        assert_eq!(canonical, ["*.mesh.internal", "10.0.0.0/8"]);
        assert!(written.egress_gateway_hosts(0).is_empty());
        let texts: Vec<&str> = written.egress_gateway_hosts(1).texts().collect();
        assert_eq!(texts, ["Exit.edge"]);
        assert!(written.egress_gateway_hosts(2).is_empty());
    }
}
