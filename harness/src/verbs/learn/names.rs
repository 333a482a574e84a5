//! Names by who owns them, and names that are taken for others.

use std::collections::HashMap;

use meridian_policy::{Action, HostPattern, Vantage};

use crate::policy::PolicyFile;
use crate::text::confusables::skeleton_of;

/// The name below which one owner gives out all names, by the Public Suffix List: `example.co.uk` of
/// `a.b.example.co.uk`, `shop.github.io` of `a.shop.github.io`. Below the cluster's service domain it
/// is the namespace. `None` for a public suffix itself and for a single label.
pub fn owned_by<'n>(name: &'n str, service_domain: &str) -> Option<&'n str> {
    if let Some(rest) = name.strip_suffix(service_domain)
        && let Some(rest) = rest.strip_suffix('.')
    {
        // `service.namespace.svc`, and what the mesh has otherwise is taken for itself alone.
        let namespace = rest.strip_suffix(".svc")?;
        let start = namespace.rfind('.')? + 1;
        return name.get(start..);
    }
    psl::domain_str(name)
}

/// Domains that stand for themselves, by what they look like.
#[derive(Debug, Default)]
pub struct LookAlikes {
    by_skeleton: HashMap<String, Vec<Domain>>,
}

#[derive(Debug)]
struct Domain {
    name: String,
    /// Requests; a name of the policy comes before all of the log.
    weight: u64,
}

impl LookAlikes {
    /// Adds the domains that rules of the policy allow.
    pub fn add_policy(&mut self, file: &PolicyFile) {
        let service_domain = &file.policy.mesh.service_domain;
        for vantage in Vantage::ALL {
            let rules = file.written().rules(*vantage);
            let allowing = rules.filter(|rule| rule.compiled.action == Action::Allow);
            for host in allowing.flat_map(|rule| rule.hosts().parsed()) {
                if let HostPattern::Exact(name) | HostPattern::Suffix(name) = host.pattern.host
                    && let Some(domain) = owned_by(name.as_str(), service_domain.as_str())
                {
                    self.add(domain, u64::MAX);
                }
            }
        }
    }

    /// Adds a domain that was asked for so many times.
    pub fn add(&mut self, domain: &str, requests: u64) {
        let alike = self.by_skeleton.entry(look(domain)).or_default();
        match alike.iter_mut().find(|known| known.name == domain) {
            Some(known) => known.weight = known.weight.saturating_add(requests),
            None => alike.push(Domain {
                name: domain.to_owned(),
                weight: requests,
            }),
        }
    }

    /// A domain that looks the same and is asked for at least as often.
    pub fn like(&self, domain: &str) -> Option<&str> {
        let alike = self.by_skeleton.get(&look(domain))?;
        let own = alike.iter().find(|known| known.name == domain);
        let weight = own.map_or(0, |own| own.weight);
        alike
            .iter()
            .filter(|other| other.name != domain && weight < u64::MAX && other.weight >= weight)
            .max_by_key(|other| other.weight)
            .map(|other| &*other.name)
    }
}

/// What a name looks like at a glance: `g00gle.com` and `exarnple.com` too.
fn look(name: &str) -> String {
    skeleton_of(name).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_not_a_public_suffix() {
        for (name, owner) in [
            ("a.b.example.co.uk", Some("example.co.uk")),
            ("example.co.uk", Some("example.co.uk")),
            ("co.uk", None),
            ("a.shop.github.io", Some("shop.github.io")),
            ("github.io", None),
            ("redis", None),
            ("api.partner.example", Some("partner.example")),
            (
                "cart.shop.svc.cluster.local",
                Some("shop.svc.cluster.local"),
            ),
            ("10-0-0-1.shop.pod.cluster.local", None),
            ("svc.cluster.local", None),
            ("xcluster.local", Some("xcluster.local")),
        ] {
            assert_eq!(owned_by(name, "cluster.local"), owner, "{name}");
        }
    }

    #[test]
    fn the_name_that_is_asked_for_less_is_the_look_alike() {
        let mut looks = LookAlikes::default();
        looks.add("google.com", 10);
        for (name, requests) in [
            ("g00gle.com", 3),
            ("googie.com", 3),
            ("xn--ggle-55da.com", 3),
        ] {
            looks.add(name, requests);
        }
        assert_eq!(looks.like("g00gle.com"), Some("google.com"));
        assert_eq!(looks.like("xn--ggle-55da.com"), Some("google.com"));
        assert_eq!(looks.like("googie.com"), None);
        assert_eq!(looks.like("google.com"), None);
        looks.add("exarnple.com", 9_999);
        let file = PolicyFile::parse(
            b"hosts: {ingress: {rules: [{name: a, action: allow, hosts: [a.example.com]}]}}",
        );
        looks.add_policy(&file.unwrap());
        assert_eq!(looks.like("exarnple.com"), Some("example.com"));
        assert_eq!(looks.like("example.com"), None);
        // Somebody who wrote both into the policy means both.
        let file = PolicyFile::parse(
            b"hosts: {egress: {rules: [{name: a, action: allow, hosts: [a1.com, al.com]}]}}",
        );
        looks.add_policy(&file.unwrap());
        assert_eq!(looks.like("a1.com"), None);
        assert_eq!(looks.like("al.com"), None);
    }
}
