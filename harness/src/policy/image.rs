//! A policy as it is put into a module.

use anyhow::Context;
use meridian_policy::{Policy, Subject, Vantage};
use serde_json::Value;

use super::{PolicyErrors, PolicyFile};

impl PolicyFile {
    /// The image of what a module of these vantage points reads of the policy, see
    /// [`Policy::to_image`]. What it reads of connections is a part of what it reads of requests.
    ///
    /// # Errors
    /// If there is too much of it.
    pub fn image(&self, vantages: &[Vantage], gateway: Option<&str>) -> anyhow::Result<Vec<u8>> {
        let slice = self.slice_of(vantages, Subject::Request, gateway);
        let mut document: Value = serde_json::from_str(&slice)?;
        let policy = Policy::from_json(slice).map_err(PolicyErrors)?;
        let sections = document.get_mut("hosts").and_then(Value::as_object_mut);
        for section in sections
            .into_iter()
            .flat_map(|sections| sections.values_mut())
        {
            let rules = section.get_mut("rules").and_then(Value::as_array_mut);
            for rule in rules.into_iter().flatten().filter_map(Value::as_object_mut) {
                rule.remove("hosts");
            }
        }
        policy
            .to_image(&document.to_string())
            .context("the policy is too large for a module: keep its hosts under 256 MiB")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_holds_what_its_module_reads() {
        let text = "
mesh: {cidrs: [10.0.0.0/8], gateways: {ingress: [
  {principal: cluster.local/ns/in/sa/a, filtered: true, name: a},
  {principal: cluster.local/ns/in/sa/b, filtered: true, name: b}]}}
hosts:
  ingress: {rules: [
    {name: both, hosts: [both.example], action: allow},
    {name: of-a, hosts: [a.example, '*.a.example'], action: allow, gateways: [a]}]}
  inbound: {rules: [{name: in, hosts: [in.example], action: deny}]}
  outbound: {rules: [{name: out, hosts: [out.example], action: deny}]}
";
        let file = PolicyFile::parse(text.as_bytes()).unwrap();
        let rules = |vantages: &[Vantage], gateway| {
            let image = file.image(vantages, gateway).unwrap().leak();
            let policy = Policy::from_image(image).unwrap();
            assert_eq!(policy.revision, Some(file.revision()));
            let names = |vantage: &Vantage| {
                let rules = policy.section(*vantage).rules.clone();
                rules
                    .into_iter()
                    .map(|rule| rule.name.into_string())
                    .collect::<Vec<_>>()
            };
            Vantage::ALL
                .iter()
                .flat_map(names)
                .collect::<Vec<_>>()
                .join(" ")
        };
        let sidecar = [Vantage::Inbound, Vantage::Outbound];
        assert_eq!(rules(&[Vantage::Ingress], Some("a")), "both of-a");
        assert_eq!(rules(&[Vantage::Ingress], Some("b")), "both");
        assert_eq!(rules(&sidecar, None), "in out");
    }
}
